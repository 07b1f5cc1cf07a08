package tail

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

	"herald/cmd/herald/visible"
)

const (
	maxRefusal     = 4 << 10 // bytes of a refusal's body that are read
	maxRefusalText = 200     // bytes of a body that is shown as it is; a longer one is probably a web page
)

// reasonNoToken is the reason of a refused request without a token, see stream/PROTOCOL.md.
const reasonNoToken = "no-token"

// refusal is an error that another try would not change.
type refusal struct{ error }

// connectionError explains an error of the network. If this program cancelled the request, the cause
// of ctx explains it better than the network's error. The result is a [refusal] if another try would
// end in the same way.
func connectionError(ctx context.Context, err error) error {
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
		return refusal{errors.New("the server does not speak TLS at this port: write http:// in --url")}
	}
	return err
}

// certificateAdvice says what to do about a certificate that the client does not accept.
func certificateAdvice(err error) string {
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return "write a name that the certificate has in --url"
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
		return "the server needs a new certificate, or this machine's clock is wrong"
	}
	return "name the authority that signed the certificate with --ca-file FILE (PEM)"
}

// checkResponse returns an error unless the response is an event stream. The error is a [refusal] if
// another try would get the same answer.
func checkResponse(res *http.Response) error {
	kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
	if res.StatusCode == http.StatusOK {
		if kind != "text/event-stream" {
			return refusal{fmt.Errorf("%s answers with %q, not with an event stream: is the URL right?", withoutToken(res.Request.URL), kind)}
		}
		return nil
	}
	text, reason := RefusalText(res.Body)
	err := fmt.Errorf("the server says %s%s", visible.Text(res.Status), text)
	switch res.StatusCode {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return err
	case http.StatusBadRequest:
		switch req := res.Request; {
		case req.URL.Scheme == "http" && strings.Contains(text, "HTTPS server"): // the words of net/http
			err = fmt.Errorf("%w: write https:// in --url", err)
		case !req.URL.Query().Has("user") && req.Header.Get("Authorization") == "":
			err = fmt.Errorf("%w; with herald tail: add --user NAME", err)
		case req.URL.Query().Has("user") && strings.Contains(text, "the token says who the user is"): // the words of Herald
			err = fmt.Errorf("%w; with herald tail: give --token-file instead of --user", err)
		}
		return refusal{err}
	case http.StatusUnauthorized:
		if reason == "" || reason == reasonNoToken { // otherwise the message says what to do
			err = fmt.Errorf("%w: give a valid token with --token-file or %s", err, TokenVariable)
		}
		return refusal{err}
	case http.StatusNotFound:
		if !SaysWhatExists(text) {
			err = fmt.Errorf("%w: is the path of --url right?", err)
		}
		return refusal{err}
	}
	if to := res.Header.Get("Location"); to != "" && res.StatusCode < 400 {
		err = fmt.Errorf("%w: it redirects to %.200q, which herald tail does not follow because the token would go there too: is that the address for --url?", err, to)
	}
	if res.StatusCode >= 500 {
		return err
	}
	return refusal{err}
}

// SaysWhatExists reports whether a refusal's text is Herald's answer to a path that the listener does not have. The
// answer says what exists instead, so another question about the path adds nothing.
func SaysWhatExists(text string) bool {
	return strings.Contains(text, "there is nothing at this path") || strings.Contains(text, "this is the admin listener")
}

// RefusalText returns the message of the server's JSON error, with a colon in front of it, and the reason why the
// token is not accepted, if the error has one. If the body is not JSON but a short text, it returns that text.
func RefusalText(body io.Reader) (text, reason string) {
	b, _ := io.ReadAll(io.LimitReader(body, maxRefusal)) // a part of the body is better than nothing
	var answer struct {
		Error struct{ Reason, Message string }
	}
	message := strings.TrimSpace(string(b))
	if json.Unmarshal(b, &answer) == nil {
		message = answer.Error.Message
	} else if len(message) > maxRefusalText || strings.HasPrefix(message, "<") || !utf8.ValidString(message) {
		message = ""
	}
	if message == "" {
		return "", ""
	}
	return ": " + visible.Text(message), answer.Error.Reason
}
