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

// The reasons why a request has no identity. Callers distinguish them with [errors.Is]. The text around
// a reason may name a claim but never contains a token or a claim's value. It is for logs, not for the
// client: [Explain] returns the text for the client.
var (
	// ErrNoToken: the request carries no token.
	ErrNoToken = errors.New("no token")
	// ErrNotBearer is an ErrNoToken: the header Authorization may hold a token, but lacks the word Bearer.
	ErrNotBearer = fmt.Errorf("%w: the header Authorization does not begin with the word Bearer", ErrNoToken)
	// ErrConflict: the request carries more than one token. A proxy in front of Herald may have checked
	// a different token than Herald would use.
	ErrConflict = errors.New("more than one token")
	// ErrOrigin: the token is in the user's cookie, but a page of another origin sent the request.
	ErrOrigin = errors.New("request of another origin")
	// ErrInvalidToken: the token is malformed, has a signature that no key verifies, or has a missing or
	// malformed claim. [Explain] distinguishes these reasons.
	ErrInvalidToken = errors.New("invalid token")
	// ErrExpired: the token was valid and has expired.
	ErrExpired = errors.New("token expired")
	// ErrRevoked: the token was revoked. See [Revocations].
	ErrRevoked = errors.New("token revoked")
	// ErrNotYetValid: the token becomes valid later. The issuer's clock may be ahead of this machine's.
	ErrNotYetValid = errors.New("token not yet valid")
	// ErrUser: the user's name is missing or not allowed. See [CheckUser].
	ErrUser = errors.New("invalid user name")
	// ErrUnavailable: the token cannot be checked now, because the keys cannot be fetched or the
	// revocations have not been read yet. The client should try again.
	ErrUnavailable = errors.New("tokens cannot be checked just now")
)

// maxUser limits a user's name, in bytes, because names are parts of keys in memory and of log lines.
const maxUser = 256

// Identity is the user who sent a request, and what the user may do.
type Identity struct {
	User     string
	ID       string    // id of the token, from its claim "jti"; empty: the token has no id
	IssuedAt time.Time // zero: the token has no time of issue
	Expires  time.Time // zero: never
	Types    []string  // event types the user may see; nil: all, empty: none
	Topics   []string  // broadcast topics the user may see; nil: all, empty: none
	Publish  bool      // whether the user may write notifications
}

// Authenticator finds the identity behind a request. Each error wraps one of this package's sentinels
// and comes with a zero identity. An Authenticator is safe for concurrent use.
type Authenticator interface {
	Authenticate(r *http.Request) (Identity, error)
}

// Insecure takes the user's name from the query parameter "user" without any proof and allows every user
// to publish. It is for development and for closed networks.
type Insecure struct{}

// Authenticate implements [Authenticator]. Its only error is [ErrUser].
func (Insecure) Authenticate(r *http.Request) (Identity, error) {
	user := r.URL.Query().Get("user")
	if user == "" {
		return Identity{}, fmt.Errorf("%w: the URL names no user: add ?user=NAME", ErrUser)
	}
	if err := CheckUser(user); err != nil {
		return Identity{}, err
	}
	return Identity{User: user, Publish: true}, nil
}

// CheckUser returns [ErrUser] unless name is allowed for a user: 1 to 256 bytes of UTF-8 without control
// characters. Names are compared byte by byte, so two names that only look alike are two users.
func CheckUser(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("%w: the name is empty", ErrUser)
	case len(name) > maxUser:
		return fmt.Errorf("%w: longer than %d bytes", ErrUser, maxUser)
	case !utf8.ValidString(name):
		return fmt.Errorf("%w: the name is not valid UTF-8", ErrUser)
	case strings.ContainsFunc(name, unicode.IsControl):
		return fmt.Errorf("%w: control characters", ErrUser)
	}
	return nil
}
