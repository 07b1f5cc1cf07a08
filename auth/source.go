package auth

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// maxToken limits a token, in bytes, before any part of it is decoded.
const maxToken = 16 << 10

// Sources takes the token out of a request: from the header Authorization, the cookie, or the query
// parameter, in this order. A request with two different tokens is refused.
type Sources struct {
	// Cookie names the cookie that may hold the token. Empty: cookies are ignored.
	Cookie string
	// Query names the query parameter that may hold the token. Empty: the query is ignored, which is
	// safer, because URLs appear in logs, histories and Referer headers (RFC 6750, section 5.3).
	Query string
	// SameOrigin returns an error for a request that a page of another origin sent. Token calls it when
	// the token is only in the cookie, because browsers attach cookies to requests of every page. Nil: no
	// check.
	SameOrigin func(*http.Request) error
}

// Token returns the token of a request. Each error wraps [ErrNoToken], [ErrConflict], [ErrOrigin] or
// [ErrInvalidToken].
func (s Sources) Token(r *http.Request) (string, error) {
	token, err := bearerToken(r.Header)
	if err != nil {
		return "", err
	}
	cookie, err := s.cookieToken(r)
	if err != nil {
		return "", err
	}
	query, err := s.queryToken(r.URL)
	if err != nil {
		return "", err
	}
	byCookie := token == "" && cookie != ""
	for _, other := range []string{cookie, query} {
		switch {
		case token == "":
			token = other
		case other != "" && other != token:
			return "", fmt.Errorf("%w: send only one of the Authorization header, the cookie and the query parameter", ErrConflict)
		}
	}
	switch {
	case token == "" && hasOtherScheme(r.Header):
		return "", ErrNotBearer
	case token == "":
		return "", ErrNoToken
	case len(token) > maxToken:
		return "", refusedTooLong.because(nil)
	case byCookie && s.SameOrigin != nil:
		if err := s.SameOrigin(r); err != nil {
			return "", fmt.Errorf("%w: %w", ErrOrigin, err)
		}
	}
	return token, nil
}

// bearerToken returns the token of the Authorization header (RFC 6750, section 2.1), or an empty string if
// the header has none. The scheme's name is case-insensitive (RFC 9110, section 11.1).
func bearerToken(h http.Header) (string, error) {
	values := h.Values("Authorization")
	if len(values) == 0 {
		return "", nil
	}
	if len(values) > 1 {
		return "", fmt.Errorf("%w: more than one Authorization header", ErrConflict)
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return "", nil // for example the password of a proxy
	}
	return strings.Trim(token, " "), nil
}

// hasOtherScheme reports whether the Authorization header seems to hold a token without the word Bearer. The password of
// a proxy (Basic) does not.
func hasOtherScheme(h http.Header) bool {
	scheme, _, _ := strings.Cut(strings.TrimSpace(h.Get("Authorization")), " ")
	return scheme != "" && !strings.EqualFold(scheme, "Bearer") && !strings.EqualFold(scheme, "Basic")
}

// cookieToken returns the token of the cookie, or an empty string without the cookie. Unless the cookie's
// name begins with __Host-, another host of the site can set a second cookie of the same name (RFC 6265,
// section 8.6); two different values are an [ErrConflict].
func (s Sources) cookieToken(r *http.Request) (string, error) {
	if s.Cookie == "" {
		return "", nil
	}
	token := ""
	for _, c := range r.CookiesNamed(s.Cookie) {
		if token != "" && c.Value != token {
			return "", fmt.Errorf("%w: two cookies have the same name", ErrConflict)
		}
		token = c.Value
	}
	return token, nil
}

// queryToken returns the token of the query parameter, or an empty string without the parameter.
func (s Sources) queryToken(u *url.URL) (string, error) {
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
	return "", fmt.Errorf("%w: the query has the parameter more than once", ErrConflict)
}
