package auth

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"herald/auth/textfile"
)

func TestLoadSecretFile(t *testing.T) {
	const text = "0123456789abcdef0123456789abcdef"
	for _, test := range []struct {
		name, content, want string
		err                 string
	}{
		{"plain", text, text, ""},
		{"line break", text + "\n", text, ""},
		{"CR LF", text + "\r\n", text, ""},
		{"two line breaks", text + "\n\n", "", "ends with more than one line break"},
		{"a space before", " " + text + "\n", "", "begins with a space"},
		{"a space after", text + " \n", "", "ends with a space"},
		{"a byte order mark", "\ufeff" + text, "", "begins with a byte order mark"},
		{"random bytes", strings.Repeat("\xfe\x01\x80", 20), "", "openssl rand -base64"},
		{"empty", "", "", "is empty"},
		{"only a line break", "\n", "", "is empty"},
		{"short", text[:31] + "\n", "", "31 bytes, HS256 needs at least 32"},
		{"a wrong file", strings.Repeat("x", textfile.MaxSecret+1), "", "is it the right file?"},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "secret")
			if err := os.WriteFile(path, []byte(test.content), 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := LoadSecretFile(path, nil)
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) || !strings.Contains(err.Error(), path) {
					t.Errorf("error %v, want one with %q and the file's name", err, test.err)
				}
				return
			}
			if err != nil || string(got) != test.want {
				t.Errorf("%q, %v; want %q", got, err, test.want)
			}
		})
	}
	if _, err := LoadSecretFile(filepath.Join(t.TempDir(), "missing"), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	if _, err := LoadSecretFile(t.TempDir(), nil); err == nil {
		t.Error("a directory is accepted as a secret")
	}
}

func TestWorldReadableSecretIsLogged(t *testing.T) {
	for mode, want := range map[os.FileMode]bool{0o600: false, 0o640: false, 0o644: true} {
		path := filepath.Join(t.TempDir(), "secret")
		if err := os.WriteFile(path, secret, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		if _, err := LoadSecretFile(path, slog.New(slog.NewTextHandler(&log, nil))); err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(log.String(), "WARN"); got != want {
			t.Errorf("mode %v: warning logged %v, want %v", mode, got, want)
		}
		if strings.Contains(log.String(), string(secret)) {
			t.Error("the secret is in the log")
		}
	}
}

func TestNewSecretIsUsableAndNeverOverwritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	if err := WriteSecretFile(path); err != nil {
		t.Fatal(err)
	}
	stat, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if stat.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", stat.Mode())
	}
	first, err := LoadSecretFile(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := WriteSecretFile(path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("second write: %v", err)
	}
	second, err := LoadSecretFile(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first, second) {
		t.Error("the secret changed")
	}
	keys, err := Secret(first)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"HS256", "HS384", "HS512"}, keys.algorithms()); diff != "" {
		t.Error(diff)
	}
	if err := WriteSecretFile(filepath.Join(t.TempDir(), "no", "secret")); err == nil {
		t.Error("a file in a missing directory is written")
	}
}
