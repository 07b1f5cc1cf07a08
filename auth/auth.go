// Package auth turns a request into the identity of its user. It knows nothing of Kafka or of
// streams.
package auth

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"
)

var (
	// ErrNoToken says that the request carries no bearer token.
	ErrNoToken = errors.New("no bearer token")
	// ErrInvalidToken says that the token is not one of ours or not valid now.
	ErrInvalidToken = errors.New("invalid token")
	// ErrUser says that the user's name cannot be one.
	ErrUser = errors.New("invalid user name")
)

const (
	maxUser   = 256
	minSecret = 32 // bytes; RFC 7518, section 3.2
	leeway    = 30 * time.Second
	publish   = "publish"
)

// Identity is who a request comes from.
type Identity struct {
	User    string
	Expires time.Time // zero: never
	Publish bool      // may write notifications
}

// Authenticator finds out who a request comes from. Its errors are [ErrNoToken],
// [ErrInvalidToken] and [ErrUser].
type Authenticator interface {
	Authenticate(r *http.Request) (Identity, error)
}

// Insecure believes what the query parameter "user" says.
type Insecure struct{}

// Authenticate implements [Authenticator].
func (Insecure) Authenticate(r *http.Request) (Identity, error) {
	id := Identity{User: r.URL.Query().Get("user"), Publish: true}
	return id, checkUser(id.User)
}

func checkUser(user string) error {
	switch {
	case user == "":
		return fmt.Errorf("%w: it is empty", ErrUser)
	case len(user) > maxUser:
		return fmt.Errorf("%w: longer than %d bytes", ErrUser, maxUser)
	case !utf8.ValidString(user) || strings.ContainsFunc(user, unicode.IsControl):
		return fmt.Errorf("%w: control characters or bytes that are no UTF-8", ErrUser)
	}
	return nil
}

// JWT takes bearer tokens (RFC 6750) signed with HS256 (RFC 7519). The user is the claim "sub";
// the claim "permissions" may list "publish". A token must expire.
type JWT struct {
	secret []byte
	parser *jwt.Parser
}

type claims struct {
	jwt.RegisteredClaims
	Permissions []string `json:"permissions,omitempty"`
}

// NewJWT needs a secret of at least 32 bytes.
func NewJWT(secret []byte) (*JWT, error) {
	if len(secret) < minSecret {
		return nil, fmt.Errorf("a JWT secret needs at least %d bytes, this has %d", minSecret, len(secret))
	}
	return &JWT{secret, jwt.NewParser(jwt.WithValidMethods([]string{"HS256"}), jwt.WithExpirationRequired(), jwt.WithLeeway(leeway))}, nil
}

// LoadJWT reads the secret from a file; a newline at its end does not count.
func LoadJWT(path string) (*JWT, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("JWT secret: %w", err)
	}
	j, err := NewJWT([]byte(strings.TrimSuffix(string(text), "\n")))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return j, nil
}

// Authenticate implements [Authenticator].
func (j *JWT) Authenticate(r *http.Request) (Identity, error) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		return Identity{}, ErrNoToken
	}
	var c claims
	if _, err := j.parser.ParseWithClaims(token, &c, func(*jwt.Token) (any, error) { return j.secret, nil }); err != nil {
		return Identity{}, fmt.Errorf("%w: %w", ErrInvalidToken, err)
	}
	return Identity{c.Subject, c.ExpiresAt.Time, slices.Contains(c.Permissions, publish)}, checkUser(c.Subject)
}

// Sign makes a token for id.
func (j *JWT) Sign(id Identity) (string, error) {
	if err := checkUser(id.User); err != nil {
		return "", err
	}
	c := claims{RegisteredClaims: jwt.RegisteredClaims{Subject: id.User, ExpiresAt: jwt.NewNumericDate(id.Expires)}}
	if id.Publish {
		c.Permissions = []string{publish}
	}
	return jwt.NewWithClaims(jwt.SigningMethodHS256, c).SignedString(j.secret)
}
