package auth

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Why a request has no identity. Callers tell them apart with [errors.Is]; the text around them may
// name a claim, never a token or a claim's value, and is for logs rather than for the client.
var (
	// ErrNoToken says that the request carries no token.
	ErrNoToken = errors.New("no token")
	// ErrConflict says that the request carries more than one token: whoever stands in front may
	// have looked at another one than we would.
	ErrConflict = errors.New("more than one token")
	// ErrOrigin says that a page of another origin asks with the user's cookie.
	ErrOrigin = errors.New("request of another origin")
	// ErrInvalidToken says that the token is malformed, not signed by us, or lacks a claim.
	ErrInvalidToken = errors.New("invalid token")
	// ErrExpired says that the token was good and is so no more.
	ErrExpired = errors.New("token expired")
	// ErrRevoked says that the token was taken back: see [Revocations].
	ErrRevoked = errors.New("token revoked")
	// ErrNotYetValid says that the token will be good later: compare the clocks.
	ErrNotYetValid = errors.New("token not yet valid")
	// ErrUser says that the user's name cannot be one: see [CheckUser].
	ErrUser = errors.New("invalid user name")
	// ErrUnavailable says that nobody knows whether the token is good: the keys cannot be had just now, or
	// the revocations are not read yet. Try again.
	ErrUnavailable = errors.New("tokens cannot be checked just now")
)

// maxUser bounds a user's name, in bytes: a name is a part of keys in memory and of log lines.
const maxUser = 256

// Identity is who a request comes from and what they may.
type Identity struct {
	User     string
	ID       string    // the token's, its claim "jti"; empty: none
	IssuedAt time.Time // zero: the token does not say
	Expires  time.Time // zero: never
	Types    []string  // event types the user may see; nil: all, empty: none
	Topics   []string  // broadcast topics the user may see; nil: all, empty: none
	Publish  bool      // may write notifications
}

// Authenticator finds out who a request comes from. Its errors are the sentinels of this package,
// wrapped; the identity is zero then. It is safe for concurrent use.
type Authenticator interface {
	Authenticate(r *http.Request) (Identity, error)
}

// Insecure believes what the query parameter "user" says and lets everybody publish. It is for
// development and for closed networks.
type Insecure struct{}

// Authenticate implements [Authenticator]. Its only error is [ErrUser].
func (Insecure) Authenticate(r *http.Request) (Identity, error) {
	user := r.URL.Query().Get("user")
	if user == "" {
		return Identity{}, fmt.Errorf("%w: none is given: add ?user=NAME to the URL", ErrUser)
	}
	if err := CheckUser(user); err != nil {
		return Identity{}, err
	}
	return Identity{User: user, Publish: true}, nil
}

// CheckUser returns [ErrUser] unless name can be a user's: 1 to 256 bytes of UTF-8 without control
// characters. Names are compared byte by byte: one that looks like another is another user.
func CheckUser(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("%w: it is empty", ErrUser)
	case len(name) > maxUser:
		return fmt.Errorf("%w: longer than %d bytes", ErrUser, maxUser)
	case !utf8.ValidString(name):
		return fmt.Errorf("%w: bytes that are no UTF-8", ErrUser)
	case strings.ContainsFunc(name, unicode.IsControl):
		return fmt.Errorf("%w: control characters", ErrUser)
	}
	return nil
}

// Challenge is the WWW-Authenticate header that a 401 for err needs (RFC 6750, section 3). A
// request without a token gets no error code: it did nothing wrong.
func Challenge(err error) string {
	switch {
	case errors.Is(err, ErrNoToken):
		return "Bearer"
	case errors.Is(err, ErrExpired):
		return `Bearer error="invalid_token", error_description="the token expired"`
	case errors.Is(err, ErrNotYetValid):
		return `Bearer error="invalid_token", error_description="the token is not yet valid"`
	default:
		return `Bearer error="invalid_token"`
	}
}
