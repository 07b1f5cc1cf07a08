package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"herald/auth/remote"
	"herald/consumer/format"
)

// Bounds of a request.
const (
	timeout   = 5 * time.Second
	maxAnswer = 4 << 20 // bytes
)

// Config are the settings of a Client.
type Config struct {
	URLs        []string       // of one registry; tried in turn. CheckURL has checked each
	Authorities *x509.CertPool // nil: the system's
}

// Client asks a schema registry that speaks the HTTP API of Confluent's, as Apicurio, Karapace and Redpanda do, too. Its
// methods may be called concurrently.
type Client struct {
	urls   []string
	http   *http.Client
	login  atomic.Pointer[login]
	answer atomic.Int32 // index of the URL that answered last
}

// login is who the client is to the registry.
type login struct{ user, password, token string }

// New returns a Client. The caller closes it.
func New(cfg Config) *Client {
	c := &Client{http: remote.NewClient(cfg.Authorities, timeout)}
	for _, u := range cfg.URLs {
		c.urls = append(c.urls, strings.TrimRight(u, "/"))
	}
	c.login.Store(&login{})
	return c
}

// Close closes the connections that are not in use.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// SetUser sets the user and the password of the next requests.
func (c *Client) SetUser(user, password string) {
	c.login.Store(&login{user: user, password: password})
}

// SetToken sets the bearer token of the next requests.
func (c *Client) SetToken(token string) { c.login.Store(&login{token: token}) }

// CheckURL returns an error unless a text can be the URL of a registry. allowHTTP allows a registry on another machine
// without TLS; then the text must be the URL of such a registry.
func CheckURL(text string, allowHTTP bool) error {
	a := remote.Address{
		URL:       text,
		Example:   "https://registry.example.com",
		AllowHTTP: allowHTTP,
		HTTPFlag:  "--insecure-schema-registry-http",
		HTTPRisk:  "without TLS, an attacker on the way can read the credentials and change schemas, and so what people see",
	}
	if err := a.Check(); err != nil {
		return err
	}
	if strings.ContainsAny(text, "?#") {
		return errors.New("want a URL without a query and a fragment")
	}
	return nil
}

// Get returns the body of the answer to a GET request, from the first URL that has it. The error wraps [format.ErrNotFound]
// if a registry answered that it has no such thing, and no URL has it.
func (c *Client) Get(ctx context.Context, path string) ([]byte, error) {
	var failures []error
	isNotFound := false
	first := int(c.answer.Load())
	for i := range c.urls {
		at := (first + i) % len(c.urls)
		body, err := c.getFrom(ctx, c.urls[at], path)
		switch {
		case err == nil:
			c.answer.Store(int32(at)) //nolint:gosec // there are a few URLs
			return body, nil
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case errors.Is(err, format.ErrNotFound):
			isNotFound = true
		default:
			failures = append(failures, fmt.Errorf("%s: %w", c.urls[at], err))
		}
	}
	if isNotFound {
		return nil, format.ErrNotFound
	}
	return nil, errors.Join(failures...)
}

// getFrom asks one URL.
func (c *Client) getFrom(ctx context.Context, url, path string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url+path, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/vnd.schemaregistry.v1+json, application/json")
	if l := c.login.Load(); l.token != "" {
		request.Header.Set("Authorization", "Bearer "+l.token)
	} else if l.user != "" {
		request.SetBasicAuth(l.user, l.password)
	}
	answer, err := c.http.Do(request)
	if err != nil {
		return nil, explainFailure(err)
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := remote.ReadBody(answer, maxAnswer)
	switch {
	case answer.StatusCode == http.StatusUnauthorized && request.Header.Get("Authorization") == "":
		return nil, errors.New("status 401: the registry wants credentials: give --schema-registry-user or --schema-registry-token-file")
	case answer.StatusCode != http.StatusOK:
		return nil, explainStatus(answer, path, body)
	case err != nil:
		return nil, remote.Explain(err)
	case len(body) > maxAnswer:
		return nil, fmt.Errorf("the answer has more than %d MiB", maxAnswer>>20)
	}
	return body, nil
}

// explainFailure returns the error of a request without an answer, with the flag to look at.
func explainFailure(err error) error {
	_, isAuthority := errors.AsType[x509.UnknownAuthorityError](err)
	_, isNotTLS := errors.AsType[tls.RecordHeaderError](err)
	err = remote.Explain(err)
	switch {
	case isAuthority:
		return fmt.Errorf("%w: give the authority by --schema-registry-ca-file", err)
	case isNotTLS || errors.Is(err, http.ErrSchemeMismatch):
		return fmt.Errorf("%w: does the registry speak http instead of https?", err)
	case errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.EOF):
		return fmt.Errorf("%w: the registry ended the connection: does it speak https instead of http, or http instead of https?", err)
	}
	return err
}

// explainStatus returns the error for an answer that is not 200. A registry says in JSON that it has no such schema, with a
// code such as 40403. Any other 404 is of a server that is not a registry, or of a wrong path; but a registry that does not
// know GUIDs answers them with the code 404 or 0 (Apicurio 2), or with nothing (Apicurio 3).
func explainStatus(answer *http.Response, path string, body []byte) error {
	var failure struct {
		Code *int `json:"error_code"`
	}
	isJSON := json.Unmarshal(body, &failure) == nil && failure.Code != nil
	isGUID := strings.HasPrefix(path, "/schemas/guids/")
	switch {
	case answer.StatusCode == http.StatusNotFound && (isJSON && *failure.Code > http.StatusNotFound || isGUID && (isJSON || len(body) == 0)):
		return format.ErrNotFound
	case answer.StatusCode == http.StatusNotFound || answer.StatusCode == http.StatusMethodNotAllowed:
		return fmt.Errorf("status %d, and not from a schema registry: look at the path of --schema-registry-url", answer.StatusCode)
	case answer.StatusCode == http.StatusUnauthorized:
		return errors.New("status 401: the registry does not accept the credentials: look at --schema-registry-user and --schema-registry-token-file")
	case answer.StatusCode == http.StatusForbidden:
		return errors.New("status 403: the user or the token that Herald has may not read this in the registry")
	}
	return remote.ExplainStatus(answer)
}
