package auth

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// maxToken bounds a token, in bytes, before anything decodes it.
const maxToken = 8 << 10

// Sources says where a request may carry its token. The header Authorization is always looked at;
// then the cookie; then the query parameter. A request with two different tokens is refused.
type Sources struct {
	// Cookie names the cookie that holds the token. Empty: none does.
	Cookie string
	// Query names the query parameter that holds the token. Empty: none does, which is better: URLs
	// are in logs, histories and Referer headers (RFC 6750, section 5.3).
	Query string
	// SameOrigin returns an error for a request that a page of another origin makes. It is asked
	// when the token is in the cookie, which browsers send along whoever asks. Nil: nobody is.
	SameOrigin func(*http.Request) error
}

// Token returns the request's token. Its errors are [ErrNoToken], [ErrConflict], [ErrOrigin] and
// [ErrInvalidToken], wrapped.
func (s Sources) Token(r *http.Request) (string, error) {
	token, err := bearer(r.Header)
	if err != nil {
		return "", err
	}
	cookie, err := s.cookie(r)
	if err != nil {
		return "", err
	}
	query, err := s.query(r.URL)
	if err != nil {
		return "", err
	}
	byCookie := token == "" && cookie != ""
	for _, other := range []string{cookie, query} {
		switch {
		case token == "":
			token = other
		case other != "" && other != token:
			return "", fmt.Errorf("%w: leave out the cookie, or the other one", ErrConflict)
		}
	}
	switch {
	case token == "":
		return "", ErrNoToken
	case len(token) > maxToken:
		return "", fmt.Errorf("%w: longer than %d bytes", ErrInvalidToken, maxToken)
	case byCookie && s.SameOrigin != nil:
		if err := s.SameOrigin(r); err != nil {
			return "", fmt.Errorf("%w: %w", ErrOrigin, err)
		}
	}
	return token, nil
}

// bearer returns the token of the Authorization header (RFC 6750, section 2.1), or nothing. The
// scheme's name is case-insensitive (RFC 9110, section 11.1).
func bearer(h http.Header) (string, error) {
	values := h.Values("Authorization")
	if len(values) == 0 {
		return "", nil
	}
	if len(values) > 1 {
		return "", fmt.Errorf("%w: more than one Authorization header", ErrConflict)
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return "", nil // a proxy's own password, say
	}
	return strings.Trim(token, " "), nil
}

// cookie returns the token in the cookie, or nothing. Another host of the site may have set a second
// cookie of the name (RFC 6265, section 8.6), unless the name begins with __Host-.
func (s Sources) cookie(r *http.Request) (string, error) {
	if s.Cookie == "" {
		return "", nil
	}
	token := ""
	for _, c := range r.CookiesNamed(s.Cookie) {
		if token != "" && c.Value != token {
			return "", fmt.Errorf("%w: two cookies of one name", ErrConflict)
		}
		token = c.Value
	}
	return token, nil
}

func (s Sources) query(u *url.URL) (string, error) {
	if s.Query == "" || u.RawQuery == "" {
		return "", nil
	}
	values := u.Query()[s.Query]
	switch len(values) {
	case 0:
		return "", nil
	case 1:
		return values[0], nil
	}
	return "", fmt.Errorf("%w: the query parameter is given twice", ErrConflict)
}
