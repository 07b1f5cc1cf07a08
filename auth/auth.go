package auth

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
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
	Where    []string  // conditions on the records the user may see; nil: none, empty: no record meets them
	Publish  bool      // whether the user may write notifications

	// Claims are the values of the claims that the configuration names, such as the user's teams. A claim without a
	// value is not in the map.
	Claims map[string][]string
}

// Authenticator finds the identity behind a request. Each error wraps one of this package's sentinels
// and comes with a zero identity. An Authenticator is safe for concurrent use.
type Authenticator interface {
	Authenticate(r *http.Request) (Identity, error)
}

// Insecure takes the user's name from the query parameter "user" without any proof and allows every user
// to publish. It is for development and for closed networks.
type Insecure struct {
	// Claims are the names of the claims to read, from query parameters. See [ClaimParam].
	Claims []string
}

// ClaimParam returns the query parameter that holds a value of the claim for [Insecure]. A query has it once for each
// value.
func ClaimParam(claim string) string { return "claim." + claim }

// Authenticate implements [Authenticator]. Its only error is [ErrUser].
func (i Insecure) Authenticate(r *http.Request) (Identity, error) {
	query := r.URL.Query()
	user := query.Get("user")
	if user == "" {
		return Identity{}, fmt.Errorf("%w: the URL names no user: add ?user=NAME", ErrUser)
	}
	if err := CheckUser(user); err != nil {
		return Identity{}, err
	}
	id := Identity{User: user, Publish: true}
	for _, name := range i.Claims {
		values := query[ClaimParam(name)]
		for _, value := range values {
			if fault := nameFault(value); fault != "" {
				return Identity{}, fmt.Errorf("%w: the query parameter %s has a value that is %s", ErrUser, ClaimParam(name), fault)
			}
		}
		id.addClaim(name, values)
	}
	return id, nil
}

// addClaim adds the values of a claim, of which each counts once.
func (id *Identity) addClaim(name string, values []string) {
	if len(values) == 0 {
		return
	}
	if id.Claims == nil {
		id.Claims = make(map[string][]string)
	}
	values = slices.Clone(values)
	slices.Sort(values)
	id.Claims[name] = slices.Compact(values)
}

// ParseClaim parses NAME=VALUE, a claim and a value that [JWTConfig.Claims] can read. The value may have equals signs.
func ParseClaim(text string) (name, value string, err error) {
	name, value, ok := strings.Cut(text, "=")
	if !ok || name == "" {
		return "", "", fmt.Errorf("%q: want NAME=VALUE, such as team=red; several values are several of them, such as team=red and team=blue", text)
	}
	if fault := nameFault(value); fault != "" {
		return "", "", fmt.Errorf("%q: the value is %s", text, fault)
	}
	return name, value, nil
}

// ParseClaims parses claims as [ParseClaim] does, and returns the values of each.
func ParseClaims(texts []string) (map[string][]string, error) {
	var id Identity
	for _, text := range texts {
		name, value, err := ParseClaim(text)
		if err != nil {
			return nil, err
		}
		id.addClaim(name, append(id.Claims[name], value))
	}
	return id.Claims, nil
}

// CheckUser returns [ErrUser] unless name is allowed for a user: 1 to 256 bytes of UTF-8 without control
// characters. Names are compared byte by byte, so two names that only look alike are two users.
func CheckUser(name string) error {
	if fault := nameFault(name); fault != "" {
		return fmt.Errorf("%w: the name is %s", ErrUser, fault)
	}
	return nil
}

// nameFault returns what a user's name, or the value of a claim, must not be; empty if it may be one.
func nameFault(name string) string {
	switch {
	case name == "":
		return "empty"
	case len(name) > maxUser:
		return fmt.Sprintf("longer than %d bytes", maxUser)
	case !utf8.ValidString(name):
		return "not valid UTF-8"
	case strings.ContainsFunc(name, unicode.IsControl):
		return "text with control characters"
	}
	return ""
}
