package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"herald/auth"
)

// TestTokenCommand makes a token with each kind of key. An authenticator must accept the token.
func TestTokenCommand(t *testing.T) {
	dir := t.TempDir()
	secret, key := filepath.Join(dir, "secret"), filepath.Join(dir, "key.pem")
	for _, args := range [][]string{{"token", "--new-secret=" + secret}, {"token", "--new-key=" + key}} {
		if code, stderr := start(t, args...); code != 0 {
			t.Fatalf("%q: %d %s", args, code, stderr)
		}
	}
	for flag, keys := range map[string]func() (auth.Keys, error){
		"--jwt-key-file=" + key: func() (auth.Keys, error) { return auth.PublicKeys(key + ".pub") },
		"--jwt-secret-file=" + secret: func() (auth.Keys, error) {
			text, err := auth.LoadSecretFile(secret, nil)
			if err != nil {
				return nil, err
			}
			return auth.Secret(text)
		},
	} {
		verifier, err := keys()
		if err != nil {
			t.Fatal(err)
		}
		j, err := auth.NewJWT(auth.JWTConfig{Keys: verifier, Issuer: "me", Audiences: []string{"herald"}})
		if err != nil {
			t.Fatal(err)
		}
		token := printed(t, "token", flag, "--user=alice", "--id=7", "--publish", "--types=a,b", "--topics=c", "--jwt-issuer=me", "--jwt-audience=herald")
		id, err := j.Verify(t.Context(), strings.TrimSpace(token))
		if err != nil {
			t.Fatalf("%s: %v", flag, err)
		}
		if got := fmt.Sprint(id.User, id.ID, id.Publish, id.Types, id.Topics); got != "alice7true [a b] [c]" {
			t.Errorf("%s: %s", flag, got)
		}
	}
	if set := printed(t, "token", "--key-set", "--jwt-key-file="+key); !strings.Contains(set, `"kty": "EC"`) || strings.Contains(set, `"d"`) {
		t.Errorf("key set %s", set)
	}
}

// printed runs the program and returns its standard output.
func printed(t *testing.T, args ...string) string {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout := os.Stdout
	os.Stdout = w
	code, stderr := start(t, args...)
	os.Stdout = stdout
	_ = w.Close()
	text, err := io.ReadAll(r)
	if code != 0 || err != nil {
		t.Fatalf("herald %q: %d %s (%v)", args, code, stderr, err)
	}
	return string(text)
}
