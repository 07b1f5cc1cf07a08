package auth

import (
	"encoding/json"
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
	cfg := JWTConfig{Keys: secretKeys(tb, secret), Now: func() time.Time { return now }}
	if change != nil {
		change(&cfg)
	}
	j, err := NewJWT(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	return j
}

func secretKeys(tb testing.TB, secret []byte) Keys {
	tb.Helper()
	keys, err := Secret(secret)
	if err != nil {
		tb.Fatal(err)
	}
	return keys
}

// checkNobody fails the test unless id is zero.
func checkNobody(tb testing.TB, id Identity) {
	tb.Helper()
	if diff := cmp.Diff(Identity{}, id); diff != "" {
		tb.Errorf("a refused request has an identity:\n%s", diff)
	}
}

// grant returns the claim "herald" with one member.
func grant(name string, value any) map[string]any {
	return map[string]any{"herald": map[string]any{name: value}}
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

// alice returns valid claims with the changes applied. A nil value removes a claim.
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

// validToken is the Authorization header of a valid token, the configuration, and the identity that the token gives.
type validToken struct {
	name   string
	config func(*JWTConfig)
	header string
	want   Identity
}

func validTokens(t *testing.T) []validToken {
	t.Helper()
	good := sign(t, alice(nil))
	return []validToken{
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
			"publish", nil, "Bearer " + sign(t, alice(grant("publish", true))),
			Identity{User: "alice", Expires: later, Publish: true},
		},
		{
			"no publishing", nil, "Bearer " + sign(t, alice(grant("publish", false))),
			Identity{User: "alice", Expires: later},
		},
		{
			"event types", nil, "Bearer " + sign(t, alice(grant("types", []string{"a", "b"}))),
			Identity{User: "alice", Expires: later, Types: []string{"a", "b"}},
		},
		{
			"no broadcast topic", nil, "Bearer " + sign(t, alice(grant("topics", []string{}))),
			Identity{User: "alice", Expires: later, Topics: []string{}},
		},
		{
			"id and time of issue", nil, "Bearer " + sign(t, alice(map[string]any{"jti": "7", "iat": now.Unix() - 5})),
			Identity{User: "alice", Expires: later, ID: "7", IssuedAt: now.Add(-5 * time.Second)},
		},
		{
			"issuer and one of two audiences", func(c *JWTConfig) { c.Issuer, c.Audiences = "https://issuer.example", []string{"herald", "other"} },
			"Bearer " + sign(t, alice(map[string]any{"iss": "https://issuer.example", "aud": []string{"third", "other"}})),
			Identity{User: "alice", Expires: later},
		},
		{
			"issued a moment ahead, within the leeway", func(c *JWTConfig) { c.Leeway = time.Minute }, "Bearer " + sign(t, alice(map[string]any{"iat": now.Unix() + 59})),
			Identity{User: "alice", Expires: later.Add(time.Minute), IssuedAt: now.Add(59 * time.Second)},
		},
		{
			"user in another claim", func(c *JWTConfig) { c.UserClaim = "email" }, "Bearer " + sign(t, alice(map[string]any{"email": "a@example.org"})),
			Identity{User: "a@example.org", Expires: later},
		},
		{
			"integer that a float64 cannot hold", nil, "Bearer " + sign(t, alice(map[string]any{"sub": json.Number("9007199254740993")})),
			Identity{User: "9007199254740993", Expires: later},
		},
		{
			"negative integer", nil, "Bearer " + sign(t, alice(map[string]any{"sub": -7})),
			Identity{User: "-7", Expires: later},
		},
	}
}

func TestValidTokensAreAccepted(t *testing.T) {
	for _, test := range validTokens(t) {
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

func TestErrorsDoNotContainTheToken(t *testing.T) {
	for _, token := range []string{sign(t, alice(map[string]any{"sub": "s3cret-name\n"})), "s3cret-name", "s3cret-name.s3cret-name.s3cret-name"} {
		_, err := authenticate(t, newJWT(t, nil), "Bearer "+token)
		if err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("error %v", err)
		}
	}
}

func TestNewJWTRefusesConfig(t *testing.T) {
	keys := secretKeys(t, secret)
	for _, test := range []struct {
		name string
		cfg  JWTConfig
		want string
	}{
		{"no keys", JWTConfig{}, "no keys"},
		{"negative leeway", JWTConfig{Keys: keys, Leeway: -1}, "leeway"},
		{"long leeway", JWTConfig{Keys: keys, Leeway: time.Hour}, "leeway"},
		{"alg none", JWTConfig{Keys: keys, Algorithms: []string{"none"}}, `"none" is not an algorithm`},
		{"algorithm of another kind of key", JWTConfig{Keys: keys, Algorithms: []string{"HS256", "RS256"}}, "no key is for RS256: the given keys are for HS256"},
		{"algorithm of a longer secret", JWTConfig{Keys: keys, Algorithms: []string{"HS384"}}, "no key is for HS384"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := NewJWT(test.cfg); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want one with %q", err, test.want)
			}
		})
	}
}

// FuzzAuthenticate checks that no header causes a panic or an identity with a name that is not allowed.
func FuzzAuthenticate(f *testing.F) {
	j := newJWT(f, nil)
	for _, header := range []string{
		"", "Bearer", "Bearer ..", "bearer a.b.c", "Basic YTpi", "Bearer " + sign(f, alice(nil)),
		"Bearer " + sign(f, alice(map[string]any{"sub": "a\x00", "exp": 1e300, "herald": nil})),
	} {
		f.Add(header)
	}
	f.Fuzz(func(t *testing.T, header string) {
		id, err := authenticate(t, j, header)
		if err == nil && CheckUser(id.User) != nil {
			t.Errorf("user %q", id.User)
		}
		if err != nil {
			checkNobody(t, id)
		}
	})
}

// FuzzMutatedToken changes a valid token. Only the unchanged token may be accepted.
func FuzzMutatedToken(f *testing.F) {
	j := newJWT(f, nil)
	good := sign(f, alice(grant("publish", true)))
	for _, at := range []int{0, 10, len(good) / 2, len(good) - 1} {
		f.Add(at, []byte("x"), 1)
		f.Add(at, []byte("."), 0)
	}
	f.Fuzz(func(t *testing.T, at int, put []byte, cut int) {
		if at < 0 || at > len(good) || cut < 0 || at+cut > len(good) {
			return
		}
		token := good[:at] + string(put) + good[at+cut:]
		id, err := j.Verify(t.Context(), token)
		if token == good {
			if err != nil {
				t.Error(err)
			}
			return
		}
		if err == nil {
			t.Errorf("the changed token %q is accepted", token)
		}
		checkNobody(t, id)
	})
}
