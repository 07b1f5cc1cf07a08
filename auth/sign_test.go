package auth

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// signedIdentities are the identities that the tests of Signer put into tokens.
var signedIdentities = map[string]Identity{
	"all":     {User: "alice", ID: "7", IssuedAt: now, Expires: later, Types: []string{"a"}, Topics: []string{}, Publish: true},
	"nothing": {User: "bob", IssuedAt: now, Expires: later},
}

// checkSigner signs tokens and verifies them with the keys. The signer must refuse a malformed name.
func checkSigner(t *testing.T, name string, s *Signer, keys Keys) {
	t.Helper()
	s.Issuer, s.Audience, s.UserClaim = "me", []string{"herald"}, "name"
	j := newJWT(t, func(c *JWTConfig) {
		c.Keys, c.UserClaim, c.Issuer, c.Audiences = keys, "name", "me", []string{"herald"}
	})
	for _, id := range signedIdentities {
		token, err := s.Sign(id)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got, err := j.Verify(t.Context(), token)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff(id, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	if _, err := s.Sign(Identity{User: "a\nb"}); !errors.Is(err, ErrUser) {
		t.Errorf("%s: error %v, want ErrUser", name, err)
	}
}

// privateKeyFiles returns the contents of a file for each kind of private key and each PEM encoding.
func privateKeyFiles(t *testing.T) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	for name, key := range privateKeys() {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	}
	files["rsa in PKCS #1"] = pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(privateKeys()["rsa"].(*rsa.PrivateKey))})
	sec1, err := x509.MarshalECPrivateKey(privateKeys()["p256"].(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	files["p256 in SEC 1"] = slices.Concat(pem.EncodeToMemory(&pem.Block{Type: "EC PARAMETERS", Bytes: []byte{6, 0}}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: sec1}))
	return files
}

func TestSignedTokenIsAccepted(t *testing.T) {
	s, err := NewSecretSigner(secret)
	if err != nil {
		t.Fatal(err)
	}
	checkSigner(t, "secret", s, secretKeys(t, secret))
	for name, text := range privateKeyFiles(t) {
		s, err := LoadSigner(writeFile(t, text))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		keys, err := PublicKeys(writeFile(t, publicPEM(t, s.public)))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		checkSigner(t, name, s, keys)
		set, err := s.KeySet()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		parsed, err := parseKeySet(set)
		if err != nil {
			t.Fatalf("%s: %v in %s", name, err, set)
		}
		checkSigner(t, name+" by key set", s, fixedKeys(parsed.keys))
		if parsed.keys[0].id != s.id {
			t.Errorf("%s: the set's kid is %q, the tokens' %q", name, parsed.keys[0].id, s.id)
		}
	}
	if _, err := LoadSigner(writeFile(t, publicPEM(t, privateKeys()["rsa"].Public()))); err == nil || !strings.Contains(err.Error(), "no private key") {
		t.Errorf("signer of a public key: %v", err)
	}
}

func TestNewKeyFilesAreUsableAndNeverOverwritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key.pem")
	if err := WriteKeyFiles(path); err != nil {
		t.Fatal(err)
	}
	if stat, err := os.Stat(path); err != nil || stat.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v: want a private key that only its owner can read", stat, err)
	}
	s, err := LoadSigner(path)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := PublicKeys(path + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	token, err := s.Sign(Identity{User: "alice", IssuedAt: now, Expires: later})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := newJWT(t, func(c *JWTConfig) { c.Keys = keys }).Verify(t.Context(), token); err != nil {
		t.Error(err)
	}
	before, err := os.ReadFile(path) //nolint:gosec // a test's own file
	if err != nil {
		t.Fatal(err)
	}
	if err := WriteKeyFiles(path); !errors.Is(err, os.ErrExist) {
		t.Errorf("second write: %v", err)
	}
	if err := os.Remove(path + ".pub"); err != nil {
		t.Fatal(err)
	}
	if err := WriteKeyFiles(path); !errors.Is(err, os.ErrExist) {
		t.Errorf("second write without the public key: %v", err)
	}
	if after, err := os.ReadFile(path); err != nil || string(after) != string(before) { //nolint:gosec // as above
		t.Errorf("the key changed (%v)", err)
	}
	if _, err := os.Stat(path + ".pub"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a public key without its private key is left over: %v", err)
	}
}
