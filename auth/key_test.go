package auth

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"herald/auth/textfile"
)

// privateKeys returns one key of each kind. It makes them once, because RSA keys are slow to make.
var privateKeys = sync.OnceValue(func() map[string]crypto.Signer {
	must := func(k crypto.Signer, err error) crypto.Signer {
		if err != nil {
			panic(err)
		}
		return k
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	p256, err256 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	p384, err384 := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	p521, err521 := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	r, errRSA := rsa.GenerateKey(rand.Reader, 2048)
	return map[string]crypto.Signer{
		"rsa": must(r, errRSA), "p256": must(p256, err256), "p384": must(p384, err384), "p521": must(p521, err521), "ed25519": must(ed, err),
	}
})

func publicPEM(tb testing.TB, public any) []byte {
	tb.Helper()
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		tb.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// certificatePEM returns a certificate that expired in 1970.
func certificatePEM(tb testing.TB, key crypto.Signer) []byte {
	tb.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "x"}, NotBefore: time.Unix(1, 0), NotAfter: time.Unix(2, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		tb.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func writeFile(tb testing.TB, text []byte) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "file")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		tb.Fatal(err)
	}
	return path
}

// TestEachAlgorithmNeedsItsKindOfKey signs tokens with every pair of an algorithm and a key that fits it. Only
// the signing key may verify a token, and a public key used as a secret must not.
func TestEachAlgorithmNeedsItsKindOfKey(t *testing.T) {
	accepts := map[string][]string{
		"secret32": {"HS256"}, "secret48": {"HS256", "HS384"}, "secret64": {"HS256", "HS384", "HS512"},
		"rsa":  {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"},
		"p256": {"ES256"}, "p384": {"ES384"}, "p521": {"ES512"}, "ed25519": {"EdDSA", "Ed25519"},
	}
	verifiers, signers, published := map[string]Keys{}, map[string]any{}, map[string][]byte{}
	for name, length := range map[string]int{"secret32": 32, "secret48": 48, "secret64": 64} {
		text := []byte(strings.Repeat(name, 8))[:length]
		verifiers[name], signers[name] = secretKeys(t, text), text
	}
	for name, private := range privateKeys() {
		published[name] = publicPEM(t, private.Public())
		keys, err := PublicKeys(writeFile(t, published[name]))
		if err != nil {
			t.Fatal(err)
		}
		verifiers[name], signers[name] = keys, private
	}
	for _, algorithm := range AllAlgorithms {
		method := jwt.GetSigningMethod(algorithm)
		for signer, key := range signers {
			token := jwt.NewWithClaims(method, alice(nil))
			text, err := token.SignedString(key)
			if err != nil {
				continue // the key is of another kind
			}
			for name, keys := range verifiers {
				_, err := newJWT(t, func(c *JWTConfig) { c.Keys = keys }).Verify(t.Context(), text)
				if want := name == signer && slices.Contains(accepts[name], algorithm); want != (err == nil) {
					t.Errorf("%s signed with %s, verified with %s: %v, want it accepted: %v", algorithm, signer, name, err, want)
				}
			}
		}
		for name, text := range published { // each public key as the secret of HS256, HS384 and HS512
			if method, ok := method.(*jwt.SigningMethodHMAC); ok {
				for _, secret := range [][]byte{text, []byte(strings.TrimSpace(string(text)))} {
					token := signWith(t, method, secret, nil, alice(nil))
					if id, err := newJWT(t, func(c *JWTConfig) { c.Keys = verifiers[name] }).Verify(t.Context(), token); !errors.Is(err, ErrInvalidToken) {
						t.Errorf("%s with the %s public key as the secret: %+v, %v", algorithm, name, id, err)
					}
				}
			}
		}
	}
}

func TestConfigRestrictsTheAlgorithms(t *testing.T) {
	keys, err := PublicKeys(writeFile(t, publicPEM(t, privateKeys()["rsa"].Public())))
	if err != nil {
		t.Fatal(err)
	}
	j := newJWT(t, func(c *JWTConfig) { c.Keys, c.Algorithms = keys, []string{"PS256"} })
	for method, want := range map[jwt.SigningMethod]bool{jwt.SigningMethodPS256: true, jwt.SigningMethodPS512: false, jwt.SigningMethodRS256: false} {
		if _, err := j.Verify(t.Context(), signWith(t, method, privateKeys()["rsa"], nil, alice(nil))); want != (err == nil) {
			t.Errorf("%s: %v, want it accepted: %v", method.Alg(), err, want)
		}
	}
}

// TestBothNamesOfEdDSA restricts the algorithms to one of the two names of EdDSA with Ed25519. A token with either name
// must be accepted, and no token of another algorithm.
func TestBothNamesOfEdDSA(t *testing.T) {
	files := []string{writeFile(t, publicPEM(t, privateKeys()["ed25519"].Public())), writeFile(t, publicPEM(t, privateKeys()["p256"].Public()))}
	keys, err := PublicKeys(files...)
	if err != nil {
		t.Fatal(err)
	}
	for _, allowed := range []string{"EdDSA", "Ed25519"} {
		j := newJWT(t, func(c *JWTConfig) { c.Keys, c.Algorithms = keys, []string{allowed} })
		for _, method := range []jwt.SigningMethod{jwt.SigningMethodEdDSA, signingMethodEd25519} {
			if _, err := j.Verify(t.Context(), signWith(t, method, privateKeys()["ed25519"], nil, alice(nil))); err != nil {
				t.Errorf("allowed %s, token with %s: %v", allowed, method.Alg(), err)
			}
		}
		_, err := j.Verify(t.Context(), signWith(t, jwt.SigningMethodES256, privateKeys()["p256"], nil, alice(nil)))
		if !errors.Is(err, ErrInvalidToken) || !strings.Contains(err.Error(), "ES256 is not one of") {
			t.Errorf("allowed %s, token with ES256: %v", allowed, err)
		}
	}
}

// TestUnsupportedAlgorithmIsNamed sends tokens whose algorithm Herald does not verify. The error for the log must name
// the algorithm, unless the name is not the name of an algorithm.
func TestUnsupportedAlgorithmIsNamed(t *testing.T) {
	for name, want := range map[string]string{
		"Ed448": "Ed448 is not one of HS256, ", "ES256K": "ES256K is not one of", "ESP256": "ESP256 is not one of", "ML-DSA-44": "ML-DSA-44 is not one of",
		"RS256": "no key is for RS256", "Ed25519": "no key is for Ed25519", "s3cret s3cret": "the text in alg is not one of",
	} {
		_, err := newJWT(t, nil).Verify(t.Context(), signWith(t, jwt.SigningMethodHS256, secret, map[string]any{"alg": name}, alice(nil)))
		if !errors.Is(err, ErrInvalidToken) || Explain(err).Reason != "algorithm" || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: error %v, want one with %q", name, err, want)
		}
	}
}

func TestPublicKeyFiles(t *testing.T) {
	keys := privateKeys()
	small, err := rsa.GenerateKey(rand.Reader, 1024) //nolint:gosec // the test is that it is refused
	if err != nil {
		t.Fatal(err)
	}
	other, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(keys["p256"])
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		text       []byte
		algorithms string
		err        string
	}{
		"public key":         {publicPEM(t, keys["p256"].Public()), "ES256", ""},
		"RSA in PKCS #1":     {pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: x509.MarshalPKCS1PublicKey(&keys["rsa"].(*rsa.PrivateKey).PublicKey)}), strings.Join(slices.Sorted(slices.Values(rsaAlgorithms)), " "), ""},
		"certificate":        {certificatePEM(t, keys["ed25519"]), "Ed25519 EdDSA", ""},
		"several":            {slices.Concat(publicPEM(t, keys["p384"].Public()), []byte("\n# words\n"), certificatePEM(t, keys["p256"])), "ES256 ES384", ""},
		"private key":        {pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), "", "this is a private key"},
		"Ed448":              {pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: decodeBase64(t, "MEMwBQYDK2VxAzoAW3q/e8fPZqZlihsZvKSAHWiF6KkwTVNw5axZSVUHuz/qesAOKz7o6smz5U71uQVTlcvtDpE9f6iA")}), "", "a key on Ed448: want RSA, ECDSA on P-256"},
		"secp256k1":          {pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: decodeBase64(t, "MFYwEAYHKoZIzj0CAQYFK4EEAAoDQgAEO7qRUoy/AITxmxuAoYBwsSkWWuOueRr4vof+9I3g/boYwdlr1ezMrLX/3Lbub89JPNuyuxC/PJSGdUJWC9yCRA==")}), "", "secp256k1 (ES256K): want RSA"},
		"small RSA key":      {publicPEM(t, small.Public()), "", "an RSA key of 1024 bits: want 2048"},
		"another curve":      {publicPEM(t, other.Public()), "", "P-224: want P-256"},
		"something else":     {pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: private}), "", `"X509 CRL" in PEM: want PUBLIC KEY`},
		"broken":             {pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: private[:20]}), "", "asn1"},
		"SSH key":            {[]byte("ssh-rsa AAAA"), "", "no public key or certificate in PEM"},
		"nothing":            {nil, "", "no public key or certificate in PEM"},
		"a file too long":    {bytes.Repeat([]byte("x"), textfile.MaxPEM+1), "", "is it the right file?"},
		"byte order mark":    {slices.Concat([]byte("\ufeff"), publicPEM(t, keys["p256"].Public())), "", "begins with a byte order mark"},
		"one of two damaged": {slices.Concat(publicPEM(t, keys["p384"].Public()), bytes.ReplaceAll(publicPEM(t, keys["p256"].Public()), []byte("\n"), []byte("\n  "))), "", "a PEM block is damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			path := writeFile(t, test.text)
			keys, err := PublicKeys(path)
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) || !strings.Contains(err.Error(), path) {
					t.Errorf("error %v, want one with %q and the file's name", err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(keys.algorithms(), " "); got != test.algorithms {
				t.Errorf("the keys are for %s, want %s", got, test.algorithms)
			}
		})
	}
	if _, err := PublicKeys("nonexistent"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
}

// BenchmarkForgedSignature measures what a token with a forged signature costs, by the kind of key. Anybody can send one.
func BenchmarkForgedSignature(b *testing.B) {
	modulus := func(bits uint) *big.Int { // no key has it, but its size makes the cost
		n := new(big.Int).Lsh(big.NewInt(1), bits)
		return n.Sub(n, big.NewInt(159))
	}
	keys := privateKeys()
	for _, test := range []struct {
		name, algorithm string
		key             any
		length          int // of a signature
	}{
		{"HS256", "HS256", secret, 32},
		{"RSA2048", "RS256", &rsa.PublicKey{N: modulus(2048), E: 65537}, 256},
		{"RSA4096", "PS512", &rsa.PublicKey{N: modulus(4096), E: 65537}, 512},
		{"RSA8192", "PS512", &rsa.PublicKey{N: modulus(8192), E: 65537}, 1024},
		{"P256", "ES256", keys["p256"].Public(), 64},
		{"P384", "ES384", keys["p384"].Public(), 96},
		{"P521", "ES512", keys["p521"].Public(), 132},
		{"Ed25519", "EdDSA", keys["ed25519"].Public(), 64},
	} {
		k, err := newKey("", test.key)
		if err != nil {
			b.Fatal(err)
		}
		forged := make([]byte, test.length)
		forged[test.length/2-1], forged[test.length-1] = 1, 1
		method := jwt.GetSigningMethod(test.algorithm)
		b.Run(test.name, func(b *testing.B) {
			for b.Loop() {
				if method.Verify("header.claims", forged, k.value) == nil {
					b.Fatal("a forged signature is good")
				}
			}
		})
	}
}
