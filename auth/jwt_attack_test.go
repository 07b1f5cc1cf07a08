package auth

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"
)

// attack is a token that must be refused, and the error. No error: the token is good.
type attack struct {
	name, token string
	want        error
}

// attacksOnTheSignature returns tokens whose header, signature or encoding is not as Herald requires it.
func attacksOnTheSignature(t *testing.T) []attack {
	t.Helper()
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
	header := func(name string, value any) string {
		return signWith(t, jwt.SigningMethodHS256, []byte(strings.Repeat("x", 32)), map[string]any{name: value}, alice(nil))
	}
	return []attack{
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
	}
}

// attacksByClaims returns correctly signed tokens with a claim that is missing, malformed or out of its range.
func attacksByClaims(t *testing.T) []attack {
	t.Helper()
	change := func(k string, v any) string { return sign(t, alice(map[string]any{k: v})) }
	return []attack{
		{"expired", change("exp", now.Unix()-1), ErrExpired},
		{"expired and signed with another secret", signWith(t, jwt.SigningMethodHS256, []byte("other"), nil, alice(map[string]any{"exp": 1})), ErrInvalidToken},
		{"without expiry", change("exp", nil), ErrInvalidToken},
		{"expiry zero", change("exp", 0), ErrExpired},
		{"expiry as text", change("exp", "4000000000"), ErrInvalidToken},
		{"expiry after the last allowed time", change("exp", 1<<40), ErrInvalidToken},
		{"not yet valid", change("nbf", later.Unix()), ErrNotYetValid},
		{"issued in the future, to outlive a revocation", change("iat", later.Unix()), ErrNotYetValid},
		{"missing sub", change("sub", nil), ErrInvalidToken},
		{"sub in another case", sign(t, jwt.MapClaims{"SUB": "alice", "exp": later.Unix()}), ErrInvalidToken},
		{"sub is a fraction", change("sub", 7.5), ErrInvalidToken},
		{"sub is true", change("sub", true), ErrInvalidToken},
		{"sub is a list", change("sub", []string{"alice"}), ErrInvalidToken},
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
	}
}

// attacksByJSON returns correctly signed tokens that two readers of JSON may understand in two ways.
func attacksByJSON(t *testing.T) []attack {
	t.Helper()
	signed := func(header, claims string) string {
		text := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(claims))
		signature, err := jwt.SigningMethodHS256.Sign(text, secret)
		if err != nil {
			t.Fatal(err)
		}
		return text + "." + base64.RawURLEncoding.EncodeToString(signature)
	}
	const header = `{"alg":"HS256"}`
	return []attack{
		{"control: a good token", signed(header, `{"sub":"alice","exp":4000000000}`), nil},
		{"two subs", signed(header, `{"sub":"bob","sub":"alice","exp":4000000000}`), ErrInvalidToken},
		{"two subs, one with an escaped name", signed(header, `{"\u0073ub":"bob","sub":"alice","exp":4000000000}`), ErrInvalidToken},
		{"two expiries", signed(header, `{"sub":"alice","exp":1,"exp":4000000000}`), ErrInvalidToken},
		{"two restrictions", signed(header, `{"sub":"alice","exp":4000000000,"herald":{"types":[],"types":["a"]}}`), ErrInvalidToken},
		{"two algorithms", signed(`{"alg":"none","alg":"HS256"}`, `{"sub":"alice","exp":4000000000}`), ErrInvalidToken},
		{"two key ids", signed(`{"alg":"HS256","kid":"a","kid":"b"}`, `{"sub":"alice","exp":4000000000}`), ErrInvalidToken},
		{"sub with an exponent", signed(header, `{"sub":1e3,"exp":4000000000}`), ErrInvalidToken},
		{"sub is 1.0", signed(header, `{"sub":1.0,"exp":4000000000}`), ErrInvalidToken},
		{"sub is -0", signed(header, `{"sub":-0,"exp":4000000000}`), ErrInvalidToken},
		{"long integer in sub", signed(header, `{"sub":`+strings.Repeat("1", 257)+`,"exp":4000000000}`), ErrUser},
		{"sub with half of a surrogate pair", signed(header, `{"sub":"alice\ud800","exp":4000000000}`), ErrInvalidToken},
		{"sub that is not UTF-8", signed(header, "{\"sub\":\"alice\xff\",\"exp\":4000000000}"), ErrInvalidToken},
		{"text after the claims", signed(header, `{"sub":"alice","exp":4000000000}{"sub":"bob"}`), ErrInvalidToken},
		{"claims are a list", signed(header, `[{"sub":"alice","exp":4000000000}]`), ErrInvalidToken},
		{"claims are null", signed(header, `null`), ErrInvalidToken},
		{"expiry with a huge exponent", signed(header, `{"sub":"alice","exp":1e300}`), ErrInvalidToken},
		{"expiry beyond floating point", signed(header, `{"sub":"alice","exp":1e400}`), ErrInvalidToken},
		{"negative expiry", signed(header, `{"sub":"alice","exp":-4000000000}`), ErrInvalidToken},
		{"negative time of issue", signed(header, `{"sub":"alice","exp":4000000000,"iat":-1}`), ErrInvalidToken},
		{"valid from a time beyond the range", signed(header, `{"sub":"alice","exp":4000000000,"nbf":1e300}`), ErrInvalidToken},
	}
}

// TestAttacksAreRefused sends the tokens of known attacks: the attacks of RFC 8725, past flaws of JWT libraries,
// and malformed claims.
func TestAttacksAreRefused(t *testing.T) {
	for _, test := range slices.Concat(attacksOnTheSignature(t), attacksByClaims(t), attacksByJSON(t)) {
		t.Run(test.name, func(t *testing.T) {
			id, err := authenticate(t, newJWT(t, nil), "Bearer "+test.token)
			if !errors.Is(err, test.want) {
				t.Errorf("error %v, want %v", err, test.want)
			}
			if test.want == nil {
				return
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
