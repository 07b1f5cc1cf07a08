package auth

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// refusedToken is a token that is not accepted, and the reason.
type refusedToken struct {
	name, token, reason string
}

func refusedTokens(t *testing.T) []refusedToken {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	right := map[string]any{"iss": "https://issuer.example", "aud": "herald-of-shop"}
	change := func(name string, value any) string {
		claims := alice(right)
		if claims[name] = value; value == nil {
			delete(claims, name)
		}
		return sign(t, claims)
	}
	good := change("jti", "7")
	parts := strings.Split(good, ".")
	header := func(name string, value any) string {
		return signWith(t, jwt.SigningMethodHS256, secret, map[string]any{name: value}, alice(right))
	}
	return []refusedToken{
		{"none", "", "no-token"},
		{"not a JWT", "s3cret", "malformed"},
		{"without a signature's dot", parts[0] + "." + parts[1], "malformed"},
		{"five parts, encrypted", "a.b.c.d.e", "malformed"},
		{"not base64", "a b.c.d", "malformed"},
		{"the word Bearer twice", "Bearer " + good, "malformed"},
		{"critical header", header("crit", []string{"b64"}), "malformed"},
		{"kid is a list", header("kid", []string{"b64"}), "malformed"},
		{"one byte too long", strings.Repeat("a", maxToken+1), "too-long"},
		{"algorithm none", signWith(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, nil, alice(right)), "algorithm"},
		{"algorithm of no key", signWith(t, jwt.SigningMethodRS256, key, nil, alice(right)), "algorithm"},
		{"algorithm that nobody knows", header("alg", "XS256"), "algorithm"},
		{"another secret", signWith(t, jwt.SigningMethodHS256, []byte(strings.Repeat("x", 32)), nil, alice(right)), "signature"},
		{"another secret, expired too", signWith(t, jwt.SigningMethodHS256, []byte("x"), nil, alice(map[string]any{"exp": 1})), "signature"},
		{"cut", good[:len(good)-4], "malformed"},
		{"issuer", change("iss", "https://evil.example"), "issuer"},
		{"no issuer", change("iss", nil), "issuer"},
		{"issuer is a list", change("iss", []string{"https://issuer.example"}), "issuer"},
		{"audience", change("aud", "other"), "audience"},
		{"no audience", change("aud", nil), "audience"},
		{"audience is a number", change("aud", 7), "audience"},
		{"expired", change("exp", now.Unix()-1), "expired"},
		{"not yet valid", change("nbf", later.Unix()), "not-yet-valid"},
		{"issued in the future", change("iat", later.Unix()), "not-yet-valid"},
		{"no expiry", change("exp", nil), "claim"},
		{"expiry is a text", change("exp", "s3cret"), "claim"},
		{"expiry out of range", change("exp", 1<<40), "claim"},
		{"no user", change("sub", nil), "claim"},
		{"user is a fraction", change("sub", 5373637265.5), "claim"},
		{"user is an object", change("sub", map[string]any{"s3cret": 1}), "claim"},
		{"user is a list", change("sub", []string{"s3cret"}), "claim"},
		{"user is true", change("sub", true), "claim"},
		{"id is a number", change("jti", 7), "claim"},
		{"number beyond the range in the claims", parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"s3cret":5373637265e999}`)) + ".", "signature"},
		{"number beyond the range in the header", base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256","x":5373637265e999}`)) + "." + parts[1] + ".", "malformed"},
		{"unknown right", change("herald", map[string]any{"s3cret": true}), "claim"},
	}
}

// refusalMessages are parts of the messages of refused tokens, by the token's name.
var refusalMessages = map[string]string{
	"no user":               `the claim sub is missing: it must name the user`,
	"user is a fraction":    `the claim sub is a number, but not an integer in decimal`,
	"user is an object":     `the claim sub is an object: it must name the user by a string or an integer`,
	"user is a list":        `the claim sub is an array`,
	"user is true":          `the claim sub is true or false`,
	"the word Bearer twice": "begins with the word Bearer",
	"issuer":                "is not the issuer that this server trusts",
	"no issuer":             "the token's issuer (iss) is missing",
	"issuer is a list":      "is not the issuer that this server trusts",
	"audience":              "is not for this server (aud)",
	"no audience":           "the token's audience (aud) is missing",
	"audience is a number":  "is not for this server (aud)",
}

// challenge matches the header that RFC 6750, section 3, defines, with the characters that it allows.
var challenge = regexp.MustCompile(`^Bearer (realm="herald"|error="invalid_token", error_description="[\x20-\x21\x23-\x5b\x5d-\x7e]+")$`)

// TestRefusalsHaveReasons wants the reason of each refused token, and an answer that holds neither a value of the
// token nor of the configuration.
func TestRefusalsHaveReasons(t *testing.T) {
	j := newJWT(t, func(c *JWTConfig) { c.Issuer, c.Audiences = "https://issuer.example", []string{"herald-of-shop"} })
	for _, test := range refusedTokens(t) {
		t.Run(test.name, func(t *testing.T) {
			_, err := authenticate(t, j, "Bearer "+test.token)
			wantRefusal(t, err, test.reason)
			if got := Explain(err).Message; !strings.Contains(got, refusalMessages[test.name]) {
				t.Errorf("message %s, want %s", got, refusalMessages[test.name])
			}
		})
	}
}

func wantRefusal(t *testing.T, err error, reason string) {
	t.Helper()
	got := Explain(err)
	if err == nil || got.Reason != reason || got.Message == "" {
		t.Errorf("%v: %+v, want the reason %q", err, got, reason)
	}
	text := got.Challenge()
	if !challenge.MatchString(text) || strings.Contains(text, "realm") != (reason == "no-token") {
		t.Errorf("challenge %s", text)
	}
	for _, value := range []string{"issuer.example", "herald-of-shop", "s3cret", "evil", "alice"} {
		if strings.Contains(text+got.Message, value) {
			t.Errorf("the answer has the value %q: %s %s", value, text, got.Message)
		}
	}
	for _, value := range []string{"s3cret", "5373637265", "evil", "alice", "keyfunc"} {
		if err != nil && strings.Contains(err.Error(), value) {
			t.Errorf("the error for the log has the value %q: %v", value, err)
		}
	}
}

// TestOtherRefusals wants the reasons of tokens that a key set and revocations refuse.
func TestOtherRefusals(t *testing.T) {
	revocations := NewRevocations(0)
	revocations.MarkComplete()
	j := newJWT(t, func(c *JWTConfig) { c.Revocations = revocations })
	if err := revocations.SetRecord(RevocationKey("alice", ""), []byte(now.Format(time.RFC3339)), Place{}); err != nil {
		t.Fatal(err)
	}
	_, err := authenticate(t, j, "Bearer "+sign(t, alice(nil)))
	wantRefusal(t, err, "revoked")
	if !errors.Is(err, ErrRevoked) {
		t.Errorf("%v, want ErrRevoked", err)
	}
}

// TestDescriptionsAreASCII names a claim with characters that a challenge must not have.
func TestDescriptionsAreASCII(t *testing.T) {
	j := newJWT(t, func(c *JWTConfig) { c.UserClaim = "é\"\\\n" })
	_, err := authenticate(t, j, "Bearer "+sign(t, alice(nil)))
	if text := Explain(err).Challenge(); !challenge.MatchString(text) || !strings.Contains(text, "the claim '''' is missing") {
		t.Errorf("challenge %q", text)
	}
}

// TestLongTokens sends the longest token that is accepted, in the header and in the query, and one byte more.
func TestLongTokens(t *testing.T) {
	j := newJWT(t, func(c *JWTConfig) { c.Sources.Query = "token" })
	for _, inQuery := range []bool{false, true} {
		for _, length := range []int{maxToken, maxToken + 1} {
			token := tokenOfLength(t, length)
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/events", nil)
			if inQuery {
				r.URL.RawQuery = "token=" + token
			} else {
				r.Header.Set("Authorization", "Bearer "+token)
			}
			id, err := j.Authenticate(r)
			if length == maxToken {
				if err != nil || id.User != "alice" {
					t.Errorf("%d bytes: %v", length, err)
				}
				continue
			}
			wantRefusal(t, err, "too-long")
			if !strings.Contains(Explain(err).Message, "longer than 16384 bytes") {
				t.Errorf("%v, want the limit", Explain(err))
			}
		}
	}
}

// tokenOfLength returns a valid token of that many bytes, most of them in a claim that Herald does not read.
func tokenOfLength(t *testing.T, length int) string {
	t.Helper()
	for groups := length/2 + length/5; ; groups++ {
		token := sign(t, alice(map[string]any{"groups": strings.Repeat("g", groups)}))
		if len(token) == length {
			return token
		}
		if len(token) > length {
			t.Fatalf("base64 makes no token of %d bytes", length)
		}
	}
}
