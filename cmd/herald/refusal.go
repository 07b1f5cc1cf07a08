package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"
)

const (
	maxRefusal     = 4 << 10 // bytes read of a refusal's body
	maxRefusalText = 200     // bytes of a body that is text and no page
)

// refusal is a reason not to try again.
type refusal struct{ error }

// reason prefers why we cancelled to what the network says about it; a [refusal] where another try
// would end in the same way.
func reason(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return refusal{fmt.Errorf("%w: %s", err, certificateAdvice(err))}
	}
	if errors.Is(err, http.ErrSchemeMismatch) {
		return refusal{errors.New("the server speaks no TLS there: write http:// in --url")}
	}
	return err
}

// certificateAdvice says what to do about a certificate that is not taken.
func certificateAdvice(err error) string {
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return "write a name that the certificate has in --url"
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
		return "the server needs a new certificate, or this machine's clock is wrong"
	}
	return "name the authority that signed the certificate by --ca-file FILE (PEM)"
}

// accept returns an error unless the response is an event stream; a [refusal] where another try
// would have the same answer.
func accept(res *http.Response) error {
	kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
	if res.StatusCode == http.StatusOK {
		if kind != "text/event-stream" {
			return refusal{fmt.Errorf("%s answers with %q, not with an event stream: is the URL right?", res.Request.URL.Redacted(), kind)}
		}
		return nil
	}
	text := refusalText(res.Body)
	err := fmt.Errorf("the server says %s%s", printable(res.Status), text)
	switch res.StatusCode {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return err
	case http.StatusBadRequest:
		switch req := res.Request; {
		case req.URL.Scheme == "http" && strings.Contains(text, "HTTPS server"): // net/http's words
			err = fmt.Errorf("%w: write https:// in --url", err)
		case !req.URL.Query().Has("user") && req.Header.Get("Authorization") == "":
			err = fmt.Errorf("%w; with herald tail: add --user NAME", err)
		}
		return refusal{err}
	case http.StatusUnauthorized:
		return refusal{fmt.Errorf("%w: give a good token by --token-file or %s", err, tokenVariable)}
	case http.StatusNotFound:
		return refusal{fmt.Errorf("%w: is the path of --url right?", err)}
	}
	if res.StatusCode >= 500 {
		return err
	}
	return refusal{err}
}

// refusalText is the message of the server's JSON error, or else a short text that is the body, with
// a colon in front.
func refusalText(body io.Reader) string {
	text, _ := io.ReadAll(io.LimitReader(body, maxRefusal)) // what there is of it
	var answer struct {
		Error struct{ Message string }
	}
	message := strings.TrimSpace(string(text))
	if json.Unmarshal(text, &answer) == nil {
		message = answer.Error.Message
	} else if len(message) > maxRefusalText || strings.HasPrefix(message, "<") || !utf8.ValidString(message) {
		message = ""
	}
	if message == "" {
		return ""
	}
	return ": " + printable(message)
}
