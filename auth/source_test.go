package auth

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestTokenIsFoundInTheRequest sends tokens in the Authorization header, the cookie and the query, alone and
// together.
func TestTokenIsFoundInTheRequest(t *testing.T) {
	foreign := errors.New("another origin")
	all := Sources{Cookie: "__Host-herald", Query: "token"}
	guarded := all
	guarded.SameOrigin = func(*http.Request) error { return foreign }
	for name, test := range map[string]struct {
		sources Sources
		headers []string // Authorization
		cookies []string
		query   string
		want    string
		err     error
	}{
		"nothing":                          {sources: all, err: ErrNoToken},
		"bearer":                           {sources: all, headers: []string{"Bearer a"}, want: "a"},
		"bearer of an empty header":        {sources: all, headers: []string{""}, err: ErrNoToken},
		"scheme alone":                     {sources: all, headers: []string{"Bearer"}, err: ErrNoToken},
		"scheme and a space":               {sources: all, headers: []string{"Bearer "}, err: ErrNoToken},
		"another scheme":                   {sources: all, headers: []string{"Basic YTpi"}, err: ErrNoToken},
		"token without a scheme":           {sources: all, headers: []string{"a.b.c"}, err: ErrNotBearer},
		"no space after the scheme":        {sources: all, headers: []string{"Bearera.b.c"}, err: ErrNotBearer},
		"a scheme of another server":       {sources: all, headers: []string{"JWT a.b.c"}, err: ErrNotBearer},
		"cookie and another scheme":        {sources: all, headers: []string{"JWT a.b.c"}, cookies: []string{"__Host-herald=a"}, want: "a"},
		"two headers":                      {sources: all, headers: []string{"Bearer a", "Bearer a"}, err: ErrConflict},
		"huge":                             {sources: all, headers: []string{"Bearer " + strings.Repeat("a", maxToken+1)}, err: ErrInvalidToken},
		"cookie":                           {sources: all, cookies: []string{"__Host-herald=a"}, want: "a"},
		"cookie of another name":           {sources: all, cookies: []string{"herald=a", "__host-herald=b"}, err: ErrNoToken},
		"cookie that is not configured":    {cookies: []string{"__Host-herald=a", "=a"}, err: ErrNoToken},
		"cookie twice, the same":           {sources: all, cookies: []string{"__Host-herald=a", "__Host-herald=a"}, want: "a"},
		"second cookie of another host":    {sources: all, cookies: []string{"__Host-herald=a", "__Host-herald=b"}, err: ErrConflict},
		"cookie and a proxy's password":    {sources: all, headers: []string{"Basic YTpi"}, cookies: []string{"__Host-herald=a"}, want: "a"},
		"query":                            {sources: all, query: "token=a", want: "a"},
		"query that is not configured":     {sources: Sources{Cookie: "c"}, query: "token=a&access_token=a", err: ErrNoToken},
		"query twice":                      {sources: all, query: "token=a&token=a", err: ErrConflict},
		"all the same":                     {sources: all, headers: []string{"Bearer a"}, cookies: []string{"__Host-herald=a"}, query: "token=a", want: "a"},
		"header and cookie in conflict":    {sources: all, headers: []string{"Bearer a"}, cookies: []string{"__Host-herald=b"}, err: ErrConflict},
		"header and query in conflict":     {sources: all, headers: []string{"Bearer a"}, query: "token=b", err: ErrConflict},
		"cookie and query in conflict":     {sources: all, cookies: []string{"__Host-herald=a"}, query: "token=b", err: ErrConflict},
		"cookie, sent by another site":     {sources: guarded, cookies: []string{"__Host-herald=a"}, err: ErrOrigin},
		"bearer, sent by another site":     {sources: guarded, headers: []string{"Bearer a"}, want: "a"},
		"bearer and cookie from elsewhere": {sources: guarded, headers: []string{"Bearer a"}, cookies: []string{"__Host-herald=a"}, want: "a"},
		"cookie and query from elsewhere":  {sources: guarded, cookies: []string{"__Host-herald=a"}, query: "token=a", err: ErrOrigin},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/events?"+test.query, nil)
			r.Header["Authorization"] = test.headers
			r.Header["Cookie"] = test.cookies
			got, err := test.sources.Token(r)
			if got != test.want || !errors.Is(err, test.err) || errors.Is(err, ErrNotBearer) != errors.Is(test.err, ErrNotBearer) {
				t.Errorf("%q, %v; want %q, %v", got, err, test.want, test.err)
			}
		})
	}
}

// FuzzCookie checks that no Cookie header causes a panic or, without the valid token, an identity.
func FuzzCookie(f *testing.F) {
	good := sign(f, alice(nil))
	j := newJWT(f, func(c *JWTConfig) { c.Sources.Cookie = "__Host-herald" })
	for _, header := range []string{
		"", "__Host-herald=", "__Host-herald=" + good, `__Host-herald="` + good + `"`, "a=b; __Host-herald=" + good + "; __Host-herald=x",
		"__Host-herald=" + good[1:], "__Host-herald;=\x00",
	} {
		f.Add(header)
	}
	f.Fuzz(func(t *testing.T, header string) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/events", nil)
		r.Header.Set("Cookie", header)
		id, err := j.Authenticate(r)
		if err == nil && (id.User != "alice" || !strings.Contains(header, good)) {
			t.Errorf("%q makes %+v", header, id)
		}
		if err != nil {
			checkNobody(t, id)
		}
	})
}
