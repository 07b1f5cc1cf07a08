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

func TestValidTokensAreAccepted(t *testing.T) {
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

// TestAttacksAreRefused sends the tokens of known attacks: the attacks of RFC 8725, past flaws of JWT libraries,
// and malformed claims.
func TestAttacksAreRefused(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	good := sign(t, alice(nil))
	parts := strings.Split(good, ".")
	segment := func(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }
	raw := func(header, claims string) string { return segment(header) + "." + segment(claims) + "." + parts[2] }
	// The last character of a 32-byte signature carries two bits of padding: another character with the same
	// four upper bits decodes to the same bytes.
	twin := good[:len(good)-1] + string(good[len(good)-1]+1)
	change := func(k string, v any) string { return sign(t, alice(map[string]any{k: v})) }
	header := func(name string, value any) string {
		return signWith(t, jwt.SigningMethodHS256, []byte(strings.Repeat("x", 32)), map[string]any{name: value}, alice(nil))
	}
	for _, test := range []struct {
		name, token string
		want        error
	}{
		{"alg none", signWith(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, nil, alice(nil)), ErrInvalidToken},
		{"alg None in another case, our signature", raw(`{"alg":"nOnE"}`, `{"sub":"alice","exp":4000000000}`), ErrInvalidToken},
		{"alg removed", raw(`{"typ":"JWT"}`, `{"sub":"alice","exp":4000000000}`), ErrInvalidToken},
		{"alg HS512 with a secret of 32 bytes", signWith(t, jwt.SigningMethodHS512, secret, nil, alice(nil)), ErrInvalidToken},
		{"alg RS256 with the attacker's key", signWith(t, jwt.SigningMethodRS256, key, nil, alice(nil)), ErrInvalidToken},
		{"jwk: attacker's key in the header", header("jwk", map[string]any{"kty": "oct", "k": segment(strings.Repeat("x", 32))}), ErrInvalidToken},
		{"jku: attacker's key set by URL", header("jku", "http://127.0.0.1:1/keys"), ErrInvalidToken},
		{"x5u: attacker's certificate by URL", header("x5u", "http://127.0.0.1:1/certificate"), ErrInvalidToken},
		{"x5c: attacker's certificate", header("x5c", []string{"MIIB"}), ErrInvalidToken},
		{"kid traversal to a file with known content", signWith(t, jwt.SigningMethodHS256, []byte{}, map[string]any{"kid": "../../../../dev/null"}, alice(nil)), ErrInvalidToken},
		{"kid injection of SQL", header("kid", "x' UNION SELECT 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx' --"), ErrInvalidToken},
		{"kid injection of a command", header("kid", "|/bin/sh -c id"), ErrInvalidToken},
		{"kid of another type", signWith(t, jwt.SigningMethodHS256, secret, map[string]any{"kid": []string{"a"}}, alice(nil)), ErrInvalidToken},
		{"kid too long", signWith(t, jwt.SigningMethodHS256, secret, map[string]any{"kid": strings.Repeat("k", maxKeyID+1)}, alice(nil)), ErrInvalidToken},
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
		{"claims nested deeply", parts[0] + "." + segment(strings.Repeat("[", 5000)) + "." + parts[2], ErrInvalidToken},
		{"expired", change("exp", now.Unix()-1), ErrExpired},
		{"expired and signed with another secret", signWith(t, jwt.SigningMethodHS256, []byte("other"), nil, alice(map[string]any{"exp": 1})), ErrInvalidToken},
		{"without expiry", change("exp", nil), ErrInvalidToken},
		{"expiry zero", change("exp", 0), ErrInvalidToken},
		{"expiry as text", change("exp", "4000000000"), ErrInvalidToken},
		{"expiry after the last allowed time", change("exp", 1<<40), ErrInvalidToken},
		{"not yet valid", change("nbf", later.Unix()), ErrNotYetValid},
		{"issued in the future, to outlive a revocation", change("iat", later.Unix()), ErrNotYetValid},
		{"missing sub", change("sub", nil), ErrUser},
		{"sub in another case", sign(t, jwt.MapClaims{"SUB": "alice", "exp": later.Unix()}), ErrUser},
		{"sub is a number", change("sub", 7), ErrUser},
		{"sub is a list", change("sub", []string{"alice"}), ErrUser},
		{"empty sub", change("sub", ""), ErrUser},
		{"NUL in sub", change("sub", "alice\x00bob"), ErrUser},
		{"line break in sub", change("sub", "alice\r\nX: y"), ErrUser},
		{"long sub", change("sub", strings.Repeat("a", 257)), ErrUser},
		{"id is a number", change("jti", 7), ErrInvalidToken},
		{"long id", change("jti", strings.Repeat("i", 257)), ErrInvalidToken},
		{"grant is not an object", change("herald", "publish"), ErrInvalidToken},
		{"grant is null", sign(t, jwt.MapClaims{"sub": "alice", "exp": later.Unix(), "herald": nil}), ErrInvalidToken},
		{"publish as text", sign(t, alice(grant("publish", "false"))), ErrInvalidToken},
		{"publish as a number", sign(t, alice(grant("publish", 1))), ErrInvalidToken},
		{"types as text", sign(t, alice(grant("types", "a"))), ErrInvalidToken},
		{"types of null, which could be all or none", sign(t, alice(grant("types", nil))), ErrInvalidToken},
		{"topics as numbers", sign(t, alice(grant("topics", []any{"a", 1}))), ErrInvalidToken},
		{"restriction misspelt", sign(t, alice(grant("type", []string{"a"}))), ErrInvalidToken},
		{"restriction in another case", sign(t, alice(grant("Types", []string{"a"}))), ErrInvalidToken},
	} {
		t.Run(test.name, func(t *testing.T) {
			id, err := authenticate(t, newJWT(t, nil), "Bearer "+test.token)
			if !errors.Is(err, test.want) {
				t.Errorf("error %v, want %v", err, test.want)
			}
			checkNobody(t, id)
		})
	}
}

// TestTokenForAnotherServiceIsRefused sends tokens whose issuer or audience differs from the configured ones.
func TestTokenForAnotherServiceIsRefused(t *testing.T) {
	j := newJWT(t, func(c *JWTConfig) { c.Issuer, c.Audiences = "https://issuer.example", []string{"herald"} })
	right := map[string]any{"iss": "https://issuer.example", "aud": "herald"}
	if _, err := authenticate(t, j, "Bearer "+sign(t, alice(right))); err != nil {
		t.Fatalf("a token with the right issuer and audience: %v", err)
	}
	for name, change := range map[string]map[string]any{
		"wrong audience":        {"aud": "shop"},
		"wrong audiences":       {"aud": []string{"shop", "Herald"}},
		"audience missing":      {"aud": nil},
		"audience empty":        {"aud": []string{}},
		"audience not text":     {"aud": 7},
		"wrong issuer":          {"iss": "https://evil.example"},
		"issuer with a slash":   {"iss": "https://issuer.example/"},
		"issuer missing":        {"iss": nil},
		"issuer not text":       {"iss": []string{"https://issuer.example"}},
		"wrong and expired too": {"aud": "shop", "exp": 1},
	} {
		t.Run(name, func(t *testing.T) {
			claims := alice(right)
			for k, v := range change {
				claims[k] = v
				if v == nil {
					delete(claims, k)
				}
			}
			id, err := authenticate(t, j, "Bearer "+sign(t, claims))
			if !errors.Is(err, ErrInvalidToken) {
				t.Errorf("error %v, want %v", err, ErrInvalidToken)
			}
			checkNobody(t, id)
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
