package auth

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"
)

var (
	secret = []byte(strings.Repeat("s", minSecret))
	now    = time.Unix(1_800_000_000, 0)
	later  = now.Add(time.Hour)
)

func newJWT(tb testing.TB, change func(*JWTConfig)) *JWT {
	tb.Helper()
	cfg := JWTConfig{Secret: secret, Now: func() time.Time { return now }}
	if change != nil {
		change(&cfg)
	}
	j, err := NewJWT(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	return j
}

func sign(tb testing.TB, claims jwt.MapClaims) string {
	tb.Helper()
	return signWith(tb, jwt.SigningMethodHS256, secret, nil, claims)
}

func signWith(tb testing.TB, method jwt.SigningMethod, key any, header map[string]any, claims jwt.MapClaims) string {
	tb.Helper()
	token := jwt.NewWithClaims(method, claims)
	maps.Copy(token.Header, header)
	text, err := token.SignedString(key)
	if err != nil {
		tb.Fatal(err)
	}
	return text
}

// alice returns claims that are good until somebody changes them.
func alice(change map[string]any) jwt.MapClaims {
	claims := jwt.MapClaims{"sub": "alice", "exp": later.Unix()}
	for k, v := range change {
		if v == nil {
			delete(claims, k)
			continue
		}
		claims[k] = v
	}
	return claims
}

func authenticate(t *testing.T, j *JWT, header string) (Identity, error) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/events", nil)
	if header != "" {
		r.Header.Set("Authorization", header)
	}
	return j.Authenticate(r)
}

func TestGoodTokens(t *testing.T) {
	good := sign(t, alice(nil))
	for _, test := range []struct {
		name   string
		config func(*JWTConfig)
		header string
		want   Identity
	}{
		{"plain", nil, "Bearer " + good, Identity{User: "alice", Expires: later}},
		{"lower-case scheme", nil, "bearer " + good, Identity{User: "alice", Expires: later}},
		{"several spaces", nil, "BEARER   " + good + " ", Identity{User: "alice", Expires: later}},
		{
			"leeway moves the end", func(c *JWTConfig) { c.Leeway = time.Minute }, "Bearer " + good,
			Identity{User: "alice", Expires: later.Add(time.Minute)},
		},
		{
			"expired within the leeway", func(c *JWTConfig) { c.Leeway = time.Minute }, "Bearer " + sign(t, alice(map[string]any{"exp": now.Unix() - 59})),
			Identity{User: "alice", Expires: now.Add(time.Second)},
		},
		{
			"publish", nil, "Bearer " + sign(t, alice(map[string]any{"permissions": []string{"other", "publish"}})),
			Identity{User: "alice", Expires: later, Publish: true},
		},
		{
			"other permissions", nil, "Bearer " + sign(t, alice(map[string]any{"permissions": []string{"Publish", "publish "}})),
			Identity{User: "alice", Expires: later},
		},
		{
			"user in another claim", func(c *JWTConfig) { c.UserClaim = "email" }, "Bearer " + sign(t, alice(map[string]any{"email": "a@example.org"})),
			Identity{User: "a@example.org", Expires: later},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := authenticate(t, newJWT(t, test.config), test.header)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestAttacks has what RFC 8725 and the library's past warn of, each under its name.
func TestAttacks(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	good := sign(t, alice(nil))
	parts := strings.Split(good, ".")
	segment := func(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }
	raw := func(header, claims string) string { return segment(header) + "." + segment(claims) + "." + parts[2] }
	// The last character of a 32-byte signature carries two bits of padding: another one with the
	// same four upper bits decodes to the same bytes.
	twin := good[:len(good)-1] + string(good[len(good)-1]+1)
	change := func(k string, v any) string { return sign(t, alice(map[string]any{k: v})) }
	for _, test := range []struct {
		name, token string
		want        error
	}{
		{"alg none", signWith(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, nil, alice(nil)), ErrInvalidToken},
		{"alg None in another case, our signature", raw(`{"alg":"nOnE"}`, `{"sub":"alice","exp":4000000000}`), ErrInvalidToken},
		{"alg removed", raw(`{"typ":"JWT"}`, `{"sub":"alice","exp":4000000000}`), ErrInvalidToken},
		{"alg HS512 with our secret", signWith(t, jwt.SigningMethodHS512, secret, nil, alice(nil)), ErrInvalidToken},
		{"alg RS256 with the attacker's key", signWith(t, jwt.SigningMethodRS256, key, nil, alice(nil)), ErrInvalidToken},
		{"attacker's key in the header", signWith(t, jwt.SigningMethodRS256, key, map[string]any{"jku": "http://evil.example/keys", "kid": "../../dev/null"}, alice(nil)), ErrInvalidToken},
		{"critical extension", signWith(t, jwt.SigningMethodHS256, secret, map[string]any{"crit": []string{"b64"}, "b64": false}, alice(nil)), ErrInvalidToken},
		{"another secret", signWith(t, jwt.SigningMethodHS256, []byte(strings.Repeat("x", 32)), nil, alice(nil)), ErrInvalidToken},
		{"empty secret", signWith(t, jwt.SigningMethodHS256, []byte{}, nil, alice(nil)), ErrInvalidToken},
		{"no signature", parts[0] + "." + parts[1] + ".", ErrInvalidToken},
		{"claims exchanged under the signature", parts[0] + "." + segment(`{"sub":"bob","exp":4000000000}`) + "." + parts[2], ErrInvalidToken},
		{"second spelling of the signature", twin, ErrInvalidToken},
		{"five parts, as encrypted tokens have", "a.b.c.d.e", ErrInvalidToken},
		{"only dots", strings.Repeat(".", 8000), ErrInvalidToken},
		{"huge token", strings.Repeat("a", maxToken+1), ErrInvalidToken},
		{"not base64", "a b.c.d", ErrInvalidToken},
		{"expired", change("exp", now.Unix()-1), ErrExpired},
		{"expired and signed by another", signWith(t, jwt.SigningMethodHS256, []byte("other"), nil, alice(map[string]any{"exp": 1})), ErrInvalidToken},
		{"without expiry", change("exp", nil), ErrInvalidToken},
		{"expiry zero", change("exp", 0), ErrInvalidToken},
		{"expiry as text", change("exp", "4000000000"), ErrInvalidToken},
		{"not yet valid", change("nbf", later.Unix()), ErrNotYetValid},
		{"missing sub", change("sub", nil), ErrUser},
		{"sub in another case", sign(t, jwt.MapClaims{"SUB": "alice", "exp": later.Unix()}), ErrUser},
		{"sub is a number", change("sub", 7), ErrUser},
		{"sub is a list", change("sub", []string{"alice"}), ErrUser},
		{"empty sub", change("sub", ""), ErrUser},
		{"NUL in sub", change("sub", "alice\x00bob"), ErrUser},
		{"line break in sub", change("sub", "alice\r\nX: y"), ErrUser},
		{"long sub", change("sub", strings.Repeat("a", 257)), ErrUser},
		{"permissions as text", change("permissions", "publish"), ErrInvalidToken},
		{"permissions as numbers", change("permissions", []any{"publish", 1}), ErrInvalidToken},
	} {
		t.Run(test.name, func(t *testing.T) {
			id, err := authenticate(t, newJWT(t, nil), "Bearer "+test.token)
			if !errors.Is(err, test.want) {
				t.Errorf("error %v, want %v", err, test.want)
			}
			if id != (Identity{}) {
				t.Errorf("the identity is %+v", id)
			}
		})
	}
}

func TestHeaders(t *testing.T) {
	good := sign(t, alice(nil))
	for _, test := range []struct {
		name   string
		values []string
		want   error
	}{
		{"none", nil, ErrNoToken},
		{"empty", []string{""}, ErrNoToken},
		{"scheme alone", []string{"Bearer"}, ErrNoToken},
		{"scheme and a space", []string{"Bearer "}, ErrNoToken},
		{"another scheme", []string{"Basic YTpi"}, ErrNoToken},
		{"token without a scheme", []string{good}, ErrNoToken},
		{"scheme glued to the token", []string{"Bearer" + good}, ErrNoToken},
		{"two headers", []string{"Bearer " + good, "Bearer " + good}, ErrInvalidToken},
		{"two tokens in one", []string{"Bearer " + good + ", Bearer " + good}, ErrInvalidToken},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/events?access_token="+good, nil)
			r.Header["Authorization"] = test.values
			if id, err := newJWT(t, nil).Authenticate(r); !errors.Is(err, test.want) {
				t.Errorf("%+v, %v; want %v", id, err, test.want)
			}
		})
	}
}

func TestErrorsDoNotTellTheToken(t *testing.T) {
	for _, token := range []string{sign(t, alice(map[string]any{"sub": "s3cret-name\n"})), "s3cret-name", "s3cret-name.s3cret-name.s3cret-name"} {
		_, err := authenticate(t, newJWT(t, nil), "Bearer "+token)
		if err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("error %v", err)
		}
	}
}

func TestNewJWTRefuses(t *testing.T) {
	for _, test := range []struct {
		name string
		cfg  JWTConfig
		want string
	}{
		{"no secret", JWTConfig{}, "empty"},
		{"short secret", JWTConfig{Secret: secret[1:]}, "31 bytes"},
		{"negative leeway", JWTConfig{Secret: secret, Leeway: -1}, "leeway"},
		{"long leeway", JWTConfig{Secret: secret, Leeway: time.Hour}, "leeway"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := NewJWT(test.cfg); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want one with %q", err, test.want)
			}
		})
	}
}

func TestSignedTokenIsTaken(t *testing.T) {
	j := newJWT(t, func(c *JWTConfig) { c.UserClaim = "name" })
	for _, want := range []Identity{
		{User: "alice", Expires: later, Publish: true},
		{User: "bob", Expires: later},
	} {
		token, err := j.Sign(want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := authenticate(t, j, "Bearer "+token)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
	if _, err := j.Sign(Identity{User: "a\nb"}); !errors.Is(err, ErrUser) {
		t.Errorf("error %v, want ErrUser", err)
	}
}

// FuzzAuthenticate checks that no header makes a panic or an identity that could not be a user's.
func FuzzAuthenticate(f *testing.F) {
	j := newJWT(f, nil)
	for _, header := range []string{
		"", "Bearer", "Bearer ..", "bearer a.b.c", "Basic YTpi", "Bearer " + sign(f, alice(nil)),
		"Bearer " + sign(f, alice(map[string]any{"sub": "a\x00", "exp": 1e300, "permissions": nil})),
	} {
		f.Add(header)
	}
	f.Fuzz(func(t *testing.T, header string) {
		id, err := authenticate(t, j, header)
		if err == nil && CheckUser(id.User) != nil {
			t.Errorf("user %q", id.User)
		}
		if err != nil && id != (Identity{}) {
			t.Errorf("%+v with %v", id, err)
		}
	})
}
