package auth

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// otherKey returns a key on P-256 that is not in privateKeys.
var otherKey = sync.OnceValue(func() crypto.Signer {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return k
})

// changedSets are changes of a key that the id in a token does not show: the set before and after, and a token that only
// the set after verifies.
func changedSets(t *testing.T) map[string][3]string {
	t.Helper()
	keys := maps.Clone(privateKeys())
	keys["other"] = otherKey()
	set := func(id, name string) string { return keySet(t, map[string]crypto.Signer{id: keys[name]}) }
	return map[string][3]string{
		"another key of the same id":         {set("one", "p256"), set("one", "other"), withKid(t, "one", jwt.SigningMethodES256, keys["other"])},
		"another kind of key of the same id": {set("one", "rsa"), set("one", "p256"), withKid(t, "one", jwt.SigningMethodES256, keys["p256"])},
		"a token without an id":              {set("one", "p256"), set("two", "other"), withKid(t, "", jwt.SigningMethodES256, keys["other"])},
		"keys without ids":                   {set("", "p256"), set("", "other"), withKid(t, "one", jwt.SigningMethodES256, keys["other"])},
	}
}

// TestKeyChangesWithoutItsID changes a key of the set so that the id of a token does not show it. The first token of the
// new key must be accepted after one more fetch, which serves all requests that come at the same time.
func TestKeyChangesWithoutItsID(t *testing.T) {
	for name, test := range changedSets(t) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				i := &issuer{set: test[0]}
				_, j := runIssuer(t, i)
				synctest.Wait() // for the first fetch
				if _, err := j.Verify(t.Context(), test[2]); !errors.Is(err, ErrInvalidToken) {
					t.Errorf("before the change: %v, want the token refused", err)
				}
				time.Sleep(time.Minute)
				i.change(test[1], nil)
				before := i.count()
				var all sync.WaitGroup
				for range 100 {
					all.Go(func() {
						if _, err := j.Verify(t.Context(), test[2]); err != nil {
							t.Errorf("after the change: %v", err)
						}
					})
				}
				all.Wait()
				if got := i.count() - before; got != 1 {
					t.Errorf("%d fetches, want one", got)
				}
			})
		})
	}
}

// TestForgedSignatureFlood verifies many tokens with the id of a key and the signature of another key, and as many
// without an id. The issuer must get at most one request in 10 s, and valid tokens must not wait, also while the issuer
// hangs.
func TestForgedSignatureFlood(t *testing.T) {
	keys := privateKeys()
	for name, broken := range map[string]func(*http.Request) (*http.Response, error){"the issuer answers": nil, "the issuer hangs": hang, "the issuer is down": refuseConnection} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				i := &issuer{set: keySet(t, map[string]crypto.Signer{"one": keys["p256"]})}
				set, j := runIssuer(t, i)
				good := withKid(t, "one", jwt.SigningMethodES256, keys["p256"])
				forged := []string{withKid(t, "one", jwt.SigningMethodES256, otherKey()), withKid(t, "", jwt.SigningMethodES256, otherKey())}
				synctest.Wait() // for the first fetch
				i.change(i.set, broken)
				var all sync.WaitGroup
				for n := range 1200 { // two a second for 10 minutes
					all.Go(func() {
						start := time.Now()
						if _, err := j.Verify(t.Context(), forged[n%2]); !errors.Is(err, ErrInvalidToken) {
							t.Errorf("forged token: %v", err)
						}
						if waited := time.Since(start); waited > jwksTimeout {
							t.Errorf("a forged token was refused after %v", waited)
						}
					})
					start := time.Now()
					if _, err := j.Verify(t.Context(), good); err != nil || time.Since(start) > 0 {
						t.Fatalf("good token: %v after %v", err, time.Since(start))
					}
					time.Sleep(time.Second / 2)
				}
				all.Wait()
				most := 62 // with a growing pause after failures: a few more at the start
				if broken != nil {
					most = 66
				}
				if got := i.count(); got < 35 || got > most {
					t.Errorf("%d fetches in 10 minutes, want at most one every 10 s", got)
				}
				if err := set.Ready(); err != nil {
					t.Errorf("not ready, but there are keys: %v", err)
				}
			})
		})
	}
}

// wrongResponses are responses that have no usable key, and the words that say what they are.
var wrongResponses = map[string]struct{ text, want string }{
	"OpenID configuration":    {`{"issuer":"https://issuer.example","jwks_uri":"https://issuer.example/keys"}`, `this is an issuer's configuration (OpenID Connect): --jwks-url takes its jwks_uri, "https://issuer.example/keys"`},
	"the same after a mark":   {"\ufeff" + `{"jwks_uri":"https://issuer.example/keys"}`, `takes its jwks_uri, "https://issuer.example/keys"`},
	"HTML":                    {"\n<!DOCTYPE html><title>Sign in</title>", "the response is HTML or XML, such as the page of a proxy or of a login"},
	"nothing":                 {"", "the response is empty"},
	"white space":             {" \n", "the response is empty"},
	"UTF-16":                  {"\xff\xfe{\x00}\x00", "the response is in UTF-16"},
	"text":                    {"not found", `it is not JSON with the list "keys"`},
	"list":                    {"[]", `it is not JSON with the list "keys"`},
	"null":                    {"null", `the list "keys" is missing`},
	"error":                   {`{"error":"x","message":"y"}`, `the list "keys" is missing, and its members are ["error" "message"]`},
	"one key":                 {`{"kty":"RSA","n":"AQAB","e":"AQAB"}`, "this is a public key as a JSON Web Key"},
	"key in PEM":              {"-----BEGIN PUBLIC KEY-----\nAA==\n-----END PUBLIC KEY-----\n", "this is a public key in PEM: --jwt-public-key-file takes it"},
	"certificates by id":      {`{"one":"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"}`, "this is a certificate in PEM"},
	"keys that are no list":   {`{"keys":{"one":{}}}`, `its member "keys" is not a list`},
	"keys that are null":      {`{"keys":null}`, `its member "keys" is not a list`},
	"no keys":                 {`{"keys":[]}`, `the set has no keys: its list "keys" is empty`},
	"keys of other kinds":     {`{"keys":[{"kty":"OKP","crv":"Ed448","alg":"Ed448","x":"AA"},{"kty":"RSA","use":"enc"}]}`, `the set has no key for tokens; the first of its 2 was left out: its "alg" "Ed448" is not one of`},
	"key for encryption":      {`{"keys":[{"kty":"RSA","use":"enc","n":"AQAB","e":"AQAB"}]}`, `the first of its 1 was left out: its "use" is "enc", not sig`},
	"short key":               {`{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"}]}`, "the first of its 1 was left out: an RSA key of 17 bits: want 2048"},
	"secret":                  {`{"keys":[{"kty":"oct","k":"AAAA"}]}`, "the first of its 1 was left out: a secret or private key"},
	"a kid that is a number":  {`{"keys":[{"kty":"RSA","kid":7}]}`, `the first of its 1 was left out: its member "kid" is a number`},
	"keys for other tokens":   {`{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`, "the key set has no key for --jwt-algorithms HS256,RS256: its keys are for Ed25519, EdDSA"},
	"keys that are no object": {`{"keys":["x"]}`, "the first of its 1 was left out: it is a string"},
}

// TestWrongKeySetIsExplained answers with something else than a usable key set. The log and the reason why the server is
// not ready must say what the response is, and what to do.
func TestWrongKeySetIsExplained(t *testing.T) {
	for name, test := range wrongResponses {
		t.Run(name, func(t *testing.T) {
			j := newJWKS(t, (&issuer{set: test.text}).serve)
			var log bytes.Buffer
			j.cfg.Logger, j.cfg.Algorithms = slog.New(slog.NewJSONHandler(&log, nil)), []string{"HS256", "RS256"}
			set, err := j.fetchKeys(t.Context())
			j.finishFetch(set, err)
			if err := j.Ready(); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("not ready: %v, want %q", err, test.want)
			}
			if want := strings.Trim(fmt.Sprintf("%q", test.want), `"`); !strings.Contains(log.String(), want) {
				t.Errorf("the log is %s, want a line with %s", log.String(), want)
			}
		})
	}
}

// FuzzKeySet checks that a response either is an error, or has keys for tokens.
func FuzzKeySet(f *testing.F) {
	for _, response := range wrongResponses {
		f.Add([]byte(response.text))
	}
	f.Add([]byte(keySet(f, map[string]crypto.Signer{"one": otherKey()})))
	f.Fuzz(func(t *testing.T, text []byte) {
		set, err := parseKeySet(text)
		if err == nil && len(set.keys) == 0 {
			t.Error("no keys and no error")
		}
		for _, k := range set.keys {
			if len(k.algorithms) == 0 || len(k.id) > maxKeyID {
				t.Errorf("a key without an algorithm, or with a long id: %+v", k)
			}
		}
	})
}

// TestRedirectIsExplained wants the address named to which an issuer redirects.
func TestRedirectIsExplained(t *testing.T) {
	j := newJWKS(t, func(*http.Request) (*http.Response, error) {
		redirect := answer(http.StatusFound, strings.NewReader(""))
		redirect.Header.Set("Location", "https://a:b@other.example/keys")
		return redirect, nil
	})
	_, err := j.fetchKeys(t.Context())
	if err == nil || !strings.Contains(err.Error(), `"https://a:xxxxx@other.example/keys"`) {
		t.Errorf("error %v, want one with the address, without its password", err)
	}
}

// TestKeySetWithByteOrderMark wants the mark ignored.
func TestKeySetWithByteOrderMark(t *testing.T) {
	set, err := parseKeySet([]byte("\ufeff" + keySet(t, privateKeys())))
	if err != nil || len(set.keys) != len(privateKeys()) {
		t.Errorf("%d keys, %v", len(set.keys), err)
	}
}

// TestKeyThatWasLeftOut sends a token whose key is in the set, but cannot verify it. The error must say why.
func TestKeyThatWasLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		good := keySet(t, map[string]crypto.Signer{"one": privateKeys()["p256"]})
		_, j := runIssuer(t, &issuer{set: strings.Replace(good, "[", `[{"kty":"RSA","kid":"small","n":"AQAB","e":"AQAB"},`, 1)})
		_, err := j.Verify(t.Context(), withKid(t, "small", jwt.SigningMethodRS256, privateKeys()["rsa"]))
		if !errors.Is(err, ErrInvalidToken) || !strings.Contains(err.Error(), "the key set's key was left out: an RSA key of 17 bits") {
			t.Errorf("error %v, want the reason", err)
		}
	})
}
