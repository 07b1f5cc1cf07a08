package auth

import (
	"bytes"
	"compress/gzip"
	"crypto"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// badKeySets holds responses that the fetcher must refuse. The key of each response in the map names its fault.
var badKeySets = map[string]func(*http.Request) (*http.Response, error){
	"status 500":            func(*http.Request) (*http.Response, error) { return answer(500, strings.NewReader("{}")), nil },
	"redirect to elsewhere": func(*http.Request) (*http.Response, error) { return answer(302, strings.NewReader("{}")), nil },
	"HTML":                  func(*http.Request) (*http.Response, error) { return answer(200, strings.NewReader("<html>")), nil },
	"an error as JSON": func(*http.Request) (*http.Response, error) {
		return answer(200, strings.NewReader(`{"error":"x"}`)), nil
	},
	"no key": func(*http.Request) (*http.Response, error) { return answer(200, strings.NewReader(`{"keys":[]}`)), nil },
	"values that are not keys": func(*http.Request) (*http.Response, error) {
		return answer(200, strings.NewReader(`{"keys":[1,null,{}]}`)), nil
	},
	"too many keys": func(*http.Request) (*http.Response, error) {
		return answer(200, strings.NewReader(`{"keys":[`+strings.Repeat("{},", maxJWKSKeys)+`{}]}`)), nil
	},
	"an endless body": func(*http.Request) (*http.Response, error) { return answer(200, zeros{}), nil },
	"a truncated body": func(*http.Request) (*http.Response, error) {
		return answer(200, io.MultiReader(strings.NewReader(`{"keys":`), errReader{})), nil
	},
	"a secret": func(*http.Request) (*http.Response, error) {
		return answer(200, strings.NewReader(`{"keys":[{"kty":"oct","kid":"one","k":"eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHg"}]}`)), nil
	},
}

// TestBadKeySetKeepsTheLastKeys lets the endpoint answer with anything but a usable key set. The last fetched
// keys must stay valid, and one error must be logged.
func TestBadKeySetKeepsTheLastKeys(t *testing.T) {
	keys := privateKeys()
	for name, broken := range badKeySets {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				i := &issuer{set: keySet(t, map[string]crypto.Signer{"one": keys["p256"]})}
				set, j := runIssuer(t, i)
				var log bytes.Buffer
				set.cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
				synctest.Wait() // for the first fetch
				before := i.count()
				i.change("", broken)
				time.Sleep(30 * time.Minute)
				if got := i.count() - before; got < 3 {
					t.Errorf("%d fetches in half an hour", got)
				}
				if _, err := j.Verify(t.Context(), withKid(t, "one", jwt.SigningMethodES256, keys["p256"])); err != nil {
					t.Errorf("a token of the last fetched key: %v", err)
				}
				forged := signWith(t, jwt.SigningMethodHS256, []byte(strings.Repeat("x", 32)), map[string]any{"kid": "one"}, jwt.MapClaims{"sub": "alice", "exp": time.Now().Add(time.Hour).Unix()})
				if _, err := j.Verify(t.Context(), forged); !errors.Is(err, ErrInvalidToken) {
					t.Errorf("a token signed with the secret of the set: %v, want it refused", err)
				}
				if got := strings.Count(log.String(), "\n"); got != 1 || !strings.Contains(log.String(), "level=ERROR") {
					t.Errorf("the log has %d lines, want one error:\n%s", got, log.String())
				}
			})
		})
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// wantTooLong fetches a key set, and wants the error that it is too long.
func wantTooLong(t *testing.T, url string) {
	t.Helper()
	j, err := NewJWKS(JWKSConfig{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	defer j.client.CloseIdleConnections()
	j.client.Timeout = 30 * time.Second // for a busy machine
	if _, err := j.fetchKeys(t.Context()); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("error %v", err)
	}
}

// TestHugeKeySetIsNotRead fetches a key set of 1 GiB over a real connection. Herald must close the connection
// early.
func TestHugeKeySetIsNotRead(t *testing.T) {
	var sent atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		n, _ := io.Copy(w, io.LimitReader(zeros{}, 1<<30))
		sent.Store(n)
	}))
	defer server.Close()
	wantTooLong(t, server.URL)
	server.Close() // waits for the handler
	if got := sent.Load(); got > 100<<20 {
		t.Errorf("the server sent %d bytes of a response that is too long after 1 MiB", got)
	}
}

// TestCompressedKeySetIsBounded fetches a key set of 64 MiB that is 64 KiB long when compressed.
func TestCompressedKeySetIsBounded(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			t.Error("the request does not accept gzip")
		}
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		_, _ = io.Copy(z, io.LimitReader(zeros{}, 64<<20))
		_ = z.Close()
	}))
	defer server.Close()
	wantTooLong(t, server.URL)
}

// TestNonsenseIsExplainedSoon wants an error for texts of 256 KiB whose parts look like the beginning of a key.
func TestNonsenseIsExplainedSoon(t *testing.T) {
	for _, part := range []string{"a=", "ssh-rsa ", "MIIB", "30", "{", "a."} {
		start := time.Now()
		if _, err := parseKeySet([]byte(strings.Repeat(part, maxJWKS/4/len(part)))); err == nil || time.Since(start) > 10*time.Second {
			t.Errorf("%q: %v after %v", part, err, time.Since(start))
		}
	}
}

// TestWhichKeysOfASetAreUsed checks for which algorithms each key of a set is used.
func TestWhichKeysOfASetAreUsed(t *testing.T) {
	keys := privateKeys()
	setWith := func(name string, change map[string]any) string {
		var set struct{ Keys []map[string]any }
		if err := json.Unmarshal([]byte(keySet(t, map[string]crypto.Signer{"one": keys[name]})), &set); err != nil {
			t.Fatal(err)
		}
		maps.Copy(set.Keys[0], change)
		text, err := json.Marshal(map[string]any{"keys": set.Keys})
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	for name, test := range map[string]struct {
		set        string
		algorithms string // empty: the key must be skipped
	}{
		"RSA":                       {setWith("rsa", nil), strings.Join(rsaAlgorithms, " ")},
		"RSA for one algorithm":     {setWith("rsa", map[string]any{"alg": "PS384"}), "PS384"},
		"RSA for HS256":             {setWith("rsa", map[string]any{"alg": "HS256"}), ""},
		"RSA for encryption":        {setWith("rsa", map[string]any{"use": "enc"}), ""},
		"RSA for signing":           {setWith("rsa", map[string]any{"key_ops": []string{"sign"}}), ""},
		"RSA for verifying":         {setWith("rsa", map[string]any{"key_ops": []string{"verify"}}), strings.Join(rsaAlgorithms, " ")},
		"RSA with its private part": {setWith("rsa", map[string]any{"d": "AQAB"}), ""},
		"RSA of 24 bits":            {setWith("rsa", map[string]any{"n": "AQAB"}), ""},
		"RSA, exponent 1":           {setWith("rsa", map[string]any{"e": "AQ"}), ""}, // every signature would be good
		"RSA, exponent 2":           {setWith("rsa", map[string]any{"e": "Ag"}), ""},
		"RSA, exponent 2^64 + 1":    {setWith("rsa", map[string]any{"e": "AQAAAAAAAAAB"}), ""},
		"RSA, even modulus":         {setWith("rsa", map[string]any{"n": strings.Repeat("-A", 171)}), ""},
		"RSA of 16384 bits":         {setWith("rsa", map[string]any{"n": strings.Repeat("_", 2730)}), ""}, // each verification would be expensive
		"P-256":                     {setWith("p256", nil), "ES256"},
		"P-256, not on the curve":   {setWith("p256", map[string]any{"x": "AQAB"}), ""},
		"P-256, point at infinity":  {setWith("p256", map[string]any{"x": "AA", "y": "AA"}), ""},
		"Ed25519 of 31 bytes":       {setWith("ed25519", map[string]any{"x": strings.Repeat("A", 42)}), ""},
		"RSA that says EC":          {setWith("rsa", map[string]any{"kty": "EC"}), ""},
		"P-256 that says P-384":     {setWith("p256", map[string]any{"crv": "P-384"}), ""},
		"Ed25519":                   {setWith("ed25519", nil), "EdDSA Ed25519"},
		"Ed25519 for EdDSA":         {setWith("ed25519", map[string]any{"alg": "EdDSA"}), "EdDSA Ed25519"},
		"Ed25519 for Ed25519":       {setWith("ed25519", map[string]any{"alg": "Ed25519"}), "EdDSA Ed25519"},
		"Ed25519 for Ed448":         {setWith("ed25519", map[string]any{"alg": "Ed448"}), ""},
		"P-256 for Ed25519":         {setWith("p256", map[string]any{"alg": "Ed25519"}), ""},
		"certificate by URL":        {setWith("p256", map[string]any{"x5u": "http://127.0.0.1:1/"}), "ES256"}, // it must not be fetched
		"malformed certificate":     {setWith("p256", map[string]any{"x5c": []string{"AAAA"}}), "ES256"},      // it must not be read
		"id too long":               {setWith("p256", map[string]any{"kid": strings.Repeat("k", maxKeyID+1)}), ""},
		"id of another type":        {setWith("p256", map[string]any{"kid": 7}), ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parseKeySet([]byte(test.set))
			if test.algorithms == "" {
				if err == nil {
					t.Errorf("the key is used for %q, want it skipped", got.keys[0].algorithms)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if algorithms := strings.Join(got.keys[0].algorithms, " "); algorithms != test.algorithms {
				t.Errorf("the key is used for %s, want %s", algorithms, test.algorithms)
			}
		})
	}
}

// TestSkippedKeysHaveReasons wants the algorithm, the curve or the kind named of keys that Herald does not use.
func TestSkippedKeysHaveReasons(t *testing.T) {
	const x = `"x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"`
	for text, want := range map[string]string{
		`{"kty":"OKP","crv":"Ed448","alg":"Ed448",` + x + `}`:     `its "alg" "Ed448" is not one of HS256, `,
		`{"kty":"OKP","crv":"Ed448","alg":"EdDSA",` + x + `}`:     `its "crv" "Ed448" is not Ed25519`,
		`{"kty":"OKP","crv":"X25519",` + x + `}`:                  `its "crv" "X25519" is not Ed25519`,
		`{"kty":"EC","crv":"secp256k1","alg":"ES256K",` + x + `}`: `its "alg" "ES256K" is not one of`,
		`{"kty":"EC","crv":"secp256k1",` + x + `}`:                `its "crv" "secp256k1" is not P-256, P-384 or P-521`,
		`{"kty":"EC","crv":"P-256","alg":"ESP256",` + x + `}`:     `its "alg" "ESP256" is not one of`,
		`{"kty":"AKP","alg":"ML-DSA-44","pub":"AAAA"}`:            `its "alg" "ML-DSA-44" is not one of`,
		`{"kty":"AKP"}`: `its "kty" "AKP" is not RSA, EC or OKP`,
		`{"kty":"OKP","crv":"Ed25519","alg":"ES256",` + x + `}`:                    `its "alg" ES256 is not an algorithm of its kind of key`,
		`{"kty":"RSA","use":"enc","alg":"RSA-OAEP","n":"AQAB","e":"AQAB"}`:         `its "use" is "enc", not sig`,
		`{"kty":"EC","crv":"` + strings.Repeat("x", 100) + `",` + x + `,"y":"AA"}`: `its "crv" "` + strings.Repeat("x", 40) + `" is not`,
	} {
		if _, err := parseJWK([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one with %q", text, err, want)
		}
	}
}

// TestKidSelectsTheKey verifies tokens with and without "kid" against a set of two keys. A token with a "kid"
// must be verified with the named key only, and a token without a "kid" with any key of the set.
func TestKidSelectsTheKey(t *testing.T) {
	keys := privateKeys()
	synctest.Test(t, func(t *testing.T) {
		_, j := runIssuer(t, &issuer{set: keySet(t, map[string]crypto.Signer{"one": keys["p256"], "two": keys["rsa"]})})
		for name, test := range map[string]struct {
			token string
			want  bool
		}{
			"the right key":       {withKid(t, "one", jwt.SigningMethodES256, keys["p256"]), true},
			"another key":         {withKid(t, "two", jwt.SigningMethodES256, keys["p256"]), false},
			"no kid":              {withKid(t, "", jwt.SigningMethodES256, keys["p256"]), true},
			"no kid, unknown key": {withKid(t, "", jwt.SigningMethodES384, keys["p384"]), false},
			"in another case":     {withKid(t, "One", jwt.SigningMethodES256, keys["p256"]), false},
			"traversal":           {withKid(t, "../one", jwt.SigningMethodES256, keys["p256"]), false},
		} {
			if _, err := j.Verify(t.Context(), test.token); test.want != (err == nil) {
				t.Errorf("%s: %v, want it accepted: %v", name, err, test.want)
			}
		}
	})
}

func TestNewJWKSRefusesConfig(t *testing.T) {
	for name, test := range map[string]struct {
		cfg  JWKSConfig
		want string
	}{
		"nothing":                         {JWKSConfig{}, "want a URL like"},
		"a file":                          {JWKSConfig{URL: "file:///etc/passwd"}, "want a URL like"},
		"no TLS":                          {JWKSConfig{URL: "http://issuer.example/keys"}, "want https"},
		"no TLS, allowed on this machine": {JWKSConfig{URL: "http://127.0.0.1/keys", AllowHTTP: true}, "--insecure-jwks-http has no effect"},
		"TLS, and allowed without":        {JWKSConfig{URL: "https://issuer.example/keys", AllowHTTP: true}, "--insecure-jwks-http has no effect"},
		"no TLS, like loopback":           {JWKSConfig{URL: "http://localhost.example/keys"}, "want https"},
		"a password":                      {JWKSConfig{URL: "https://a:b@issuer.example/keys"}, "want no user and password"}, //nolint:gosec // the test is that it is refused
		"too often":                       {JWKSConfig{URL: "https://issuer.example/keys", Refresh: time.Second}, "want 1m0s"},
	} {
		if _, err := NewJWKS(test.cfg); err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "a:b") {
			t.Errorf("%s: error %v, want one with %q", name, err, test.want)
		}
	}
}
