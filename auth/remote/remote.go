// Package remote makes requests to the HTTP servers that an operator names and trusts: the server of a key set, and the
// token endpoint, which gets a secret. Such a server must speak TLS, so that nobody else can answer or read the secret. A
// redirect to another server is not followed. An answer may be wrong or endless, so its length is bounded.
package remote

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// maxHeader bounds the headers of an answer, in bytes.
const maxHeader = 64 << 10

// Address is a URL that an operator has given.
type Address struct {
	URL     string
	Example string // a URL of this kind, for errors
	// AllowHTTP allows an address without TLS on another machine. For errors, HTTPFlag is the flag that sets AllowHTTP,
	// and HTTPRisk says what an attacker on the way can do.
	AllowHTTP          bool
	HTTPFlag, HTTPRisk string
}

// Check returns an error for an address that is not a URL of HTTP, or that has no TLS and is not on this machine, unless
// AllowHTTP is set. It also refuses AllowHTTP without an effect, and a user and password in the URL.
func (a *Address) Check() error {
	u, err := url.Parse(a.URL)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return fmt.Errorf("want a URL like %s", a.Example)
	case u.Scheme == "http" && !a.AllowHTTP && !isLoopback(u.Hostname()):
		return fmt.Errorf("want https: %s (http is allowed for this machine, and with %s in a network that you trust)", a.HTTPRisk, a.HTTPFlag)
	case a.AllowHTTP && (u.Scheme != "http" || isLoopback(u.Hostname())):
		return fmt.Errorf("%s has no effect with this URL: leave the flag out", a.HTTPFlag)
	case u.User != nil:
		return errors.New("want no user and password in the URL")
	}
	return nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// NewClient returns a client that trusts the authorities, or the system's if they are nil, and the proxies of the
// environment. timeout bounds a whole request. The client follows no redirect, because the operator chose the server. The
// caller gets the redirect as an answer, which [ExplainStatus] explains.
func NewClient(authorities *x509.CertPool, timeout time.Duration) *http.Client {
	return &http.Client{
		Timeout: timeout,
		Transport: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: authorities},
			ForceAttemptHTTP2:      true,
			MaxResponseHeaderBytes: maxHeader,
			IdleConnTimeout:        30 * time.Second,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Explain returns the error of a request without the URL, which the caller knows.
func Explain(err error) error {
	u, ok := errors.AsType[*url.Error](err)
	if !ok {
		return err
	}
	if strings.HasPrefix(u.Err.Error(), context.DeadlineExceeded.Error()) { // also the client's own time-out
		return fmt.Errorf("no answer in time: %w", u.Err)
	}
	return u.Err
}

// ExplainStatus returns an error for an answer that is not 200.
func ExplainStatus(answer *http.Response) error {
	if to, err := answer.Location(); err == nil {
		return fmt.Errorf("status %d, want 200; redirects are not followed: give the URL that it leads to, %.200q, if you trust that server", answer.StatusCode, to.Redacted())
	}
	return fmt.Errorf("status %d, want 200", answer.StatusCode)
}

// ReadBody reads a body of at most limit bytes, and one byte more of a longer one.
func ReadBody(answer *http.Response, limit int64) ([]byte, error) {
	return io.ReadAll(io.LimitReader(answer.Body, limit+1))
}
