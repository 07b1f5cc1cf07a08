package login

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"herald/auth/remote"
)

const (
	// fetchTimeout bounds a whole request for a token.
	fetchTimeout = 10 * time.Second

	// A token is used for unknownLife if neither the endpoint nor the token says how long it lives, and for longestLife
	// if they say longer.
	unknownLife = time.Minute
	longestLife = 24 * time.Hour
)

// EndpointConfig says how to get tokens by client credentials (RFC 6749, section 4.4).
type EndpointConfig struct {
	URL              string // of the token endpoint
	AllowHTTP        bool   // allow an address without TLS on another machine
	ClientID, Secret string
	Scope, Audience  string         // "": not sent
	RootCAs          *x509.CertPool // may sign the certificate of the endpoint; nil: the system's
}

// endpointFlag is the flag that names the endpoint.
const endpointFlag = "--kafka-oauth-token-url"

// Endpoint gets tokens from a token endpoint and keeps each until the next one. It is a [Source].
type Endpoint struct {
	cfg    EndpointConfig
	client *http.Client
	styles []oauth2.AuthStyle // ways to send the secret, to try in this order
	tokens renewed
}

// NewEndpoint returns an error that says what to do if cfg is invalid. It sends no request.
func NewEndpoint(cfg EndpointConfig) (*Endpoint, error) {
	address := remote.Address{
		URL: cfg.URL, Example: "https://issuer.example/oauth2/token",
		AllowHTTP: cfg.AllowHTTP, HTTPFlag: "--insecure-kafka-oauth-http", HTTPRisk: "everybody on the way can read the secret and the token",
	}
	if err := address.Check(); err != nil {
		return nil, fmt.Errorf("%s: %w", endpointFlag, err)
	}
	e := &Endpoint{
		cfg: cfg, client: remote.NewClient(cfg.RootCAs, fetchTimeout),
		styles: []oauth2.AuthStyle{oauth2.AuthStyleInHeader, oauth2.AuthStyleInParams},
	}
	e.tokens.fetch = e.fetch
	return e, nil
}

// Token implements [Source].
func (e *Endpoint) Token(ctx context.Context) (Token, error) {
	token, err := e.tokens.get(ctx)
	if err != nil {
		return Token{}, fmt.Errorf("%s: %w", endpointFlag, err)
	}
	return token, nil
}

// Replace implements [Source].
func (e *Endpoint) Replace(token Token) { e.tokens.replace(token.Text) }

// Advice implements [Source].
func (e *Endpoint) Advice() string {
	return endpointFlag + ", --kafka-oauth-scope and --kafka-oauth-audience, and whether the broker accepts the token's issuer and audience"
}

// fetch asks the endpoint for a token. Endpoints want the secret in the header Authorization, which RFC 6749 (section
// 2.3.1) prefers, or in the body. fetch tries the body if the endpoint refuses the header, and remembers what worked. It
// has one caller at a time.
func (e *Endpoint) fetch(ctx context.Context) (Token, error) {
	defer e.client.CloseIdleConnections() // the next request comes after most of a token's life
	var first error
	for i, style := range e.styles {
		token, err := e.request(ctx, style)
		if err == nil {
			e.styles = e.styles[i : i+1]
			return token, nil
		}
		if first == nil {
			first = err
		}
		if !refusesClient(err) {
			break
		}
	}
	return Token{}, e.explain(first)
}

func (e *Endpoint) request(ctx context.Context, style oauth2.AuthStyle) (Token, error) {
	cfg := clientcredentials.Config{ClientID: e.cfg.ClientID, ClientSecret: e.cfg.Secret, TokenURL: e.cfg.URL, AuthStyle: style}
	if e.cfg.Scope != "" {
		cfg.Scopes = []string{e.cfg.Scope}
	}
	if e.cfg.Audience != "" {
		cfg.EndpointParams = url.Values{"audience": {e.cfg.Audience}}
	}
	answer, err := cfg.Token(context.WithValue(ctx, oauth2.HTTPClient, e.client))
	if err != nil {
		return Token{}, err
	}
	switch {
	case !bearerToken.MatchString(answer.AccessToken):
		return Token{}, fmt.Errorf("the access_token of the answer %w", errNotToken)
	case answer.TokenType != "" && !strings.EqualFold(answer.TokenType, "Bearer"):
		return Token{}, fmt.Errorf("the answer has a token of the type %.40q, want Bearer", answer.TokenType)
	case !answer.Expiry.IsZero() && !answer.Expiry.After(time.Now()):
		return Token{}, errors.New("the token of the answer has expired already (expires_in)")
	}
	return Token{answer.AccessToken, endOfUse(answer)}, nil
}

// endOfUse returns when to use a token no longer: when expires_in or the token itself says so, whichever is earlier.
// Brokers go by the token, whose time is in whole seconds. Zero as expires_in stands for no answer.
func endOfUse(answer *oauth2.Token) time.Time {
	now := time.Now()
	expires := answer.Expiry
	if own := expiry(answer.AccessToken); own.After(now) && (expires.IsZero() || own.Before(expires)) {
		expires = own
	}
	if expires.IsZero() {
		expires = now.Add(unknownLife)
	}
	if longest := now.Add(longestLife); expires.After(longest) {
		expires = longest
	}
	return expires
}

// refusesClient reports whether an endpoint may have refused the way in which the secret was sent.
func refusesClient(err error) bool {
	refusal, ok := errors.AsType[*oauth2.RetrieveError](err)
	return ok && slices.Contains([]int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden}, refusal.Response.StatusCode) &&
		slices.Contains([]string{"", "invalid_client", "invalid_request", "unauthorized_client"}, refusal.ErrorCode)
}

// explain returns an error without the URL, and without the secret, which an endpoint might repeat.
func (e *Endpoint) explain(err error) error {
	refusal, ok := errors.AsType[*oauth2.RetrieveError](err)
	if !ok {
		return errors.New(e.clean(explainConnection(err)))
	}
	status := refusal.Response.StatusCode
	switch {
	case refusal.ErrorCode != "":
		text := fmt.Sprintf("status %d: %s", status, refusal.ErrorCode)
		if refusal.ErrorDescription != "" {
			text += ": " + refusal.ErrorDescription
		}
		return errors.New(e.clean(text))
	case status/100 == 3:
		return errors.New(e.clean(remote.ExplainStatus(refusal.Response).Error()))
	case len(refusal.Body) > 0:
		return errors.New(e.clean(fmt.Sprintf("status %d: is this a token endpoint? It answers %s", status, refusal.Body)))
	}
	return fmt.Errorf("status %d", status)
}

// explainConnection returns the text of an error that is no refusal of the endpoint.
func explainConnection(err error) string {
	text := strings.TrimPrefix(remote.Explain(err).Error(), "oauth2: ")
	_, untrusted := errors.AsType[*tls.CertificateVerificationError](err)
	switch {
	case untrusted:
		return text + " (--kafka-oauth-ca-file names the authorities that sign the endpoint's certificate)"
	case strings.HasPrefix(text, "cannot parse"):
		return "is this a token endpoint? " + text
	}
	return text
}

// clean is the function of this name for a text of the endpoint. It also replaces the secret, in the forms in which the
// endpoint gets it and in which an answer may repeat it.
func (e *Endpoint) clean(text string) string {
	if e.cfg.Secret == "" {
		return clean(text)
	}
	escaped := url.QueryEscape(e.cfg.Secret)
	header := base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(e.cfg.ClientID) + ":" + escaped))
	quoted, _ := json.Marshal(e.cfg.Secret) // a string has no error
	inJSON := string(quoted[1 : len(quoted)-1])
	var pairs []string
	for _, form := range []string{header, e.cfg.Secret, escaped, inJSON, strings.ReplaceAll(inJSON, "/", `\/`), html.EscapeString(e.cfg.Secret)} {
		pairs = append(pairs, form, "(secret)")
	}
	return clean(strings.NewReplacer(pairs...).Replace(text))
}
