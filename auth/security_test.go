package auth

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// goProgram makes a program of the lines of Go in SECURITY.md.
const goProgram = `package main

import (
	"bytes"
	"fmt"
	"os"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

func main() {
%s
	if err != nil {
		panic(err)
	}
	fmt.Println(token)
}
`

// issuers are the languages in which SECURITY.md makes a token, each with the function that makes a command of the
// document's lines.
var issuers = map[string]func(t *testing.T, lines string) []string{
	"js": func(t *testing.T, lines string) []string {
		t.Helper()
		return []string{lookPath(t, "node"), "-e", lines}
	},
	"python": func(t *testing.T, lines string) []string {
		t.Helper()
		return []string{lookPath(t, "python3"), "-c", lines}
	},
	"go": func(t *testing.T, lines string) []string {
		t.Helper()
		dir := t.TempDir()
		source, program := filepath.Join(dir, "main.go"), filepath.Join(dir, "issuer")
		if err := os.WriteFile(source, fmt.Appendf(nil, goProgram, lines), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.CommandContext(t.Context(), lookPath(t, "go"), "build", "-o", program, source).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return []string{program}
	},
}

// lookPath returns the path of a program. Without the program it skips the test, or fails it if
// HERALD_REQUIRE_LANGUAGES is 1. It writes the reason to the file that HERALD_TEST_SKIPS names, which make test prints.
func lookPath(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err == nil {
		return path
	}
	line := fmt.Sprintf("NOT TESTED: the lines of SECURITY.md that make a token: no %s", program)
	if os.Getenv("HERALD_REQUIRE_LANGUAGES") == "1" {
		t.Fatal(line)
	}
	if name := os.Getenv("HERALD_TEST_SKIPS"); name != "" {
		f, err := os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0) //nolint:gosec // make test names the file
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close() //nolint:errcheck // a line that is missing is no failure
		_, _ = fmt.Fprintln(f, line)
	}
	t.Skip(line)
	return ""
}

// TestIssuersOfSecurityDocument runs the lines of SECURITY.md that make a token in each language, with a secret whose
// file ends as editors end it. A server with the same file must accept the token.
func TestIssuersOfSecurityDocument(t *testing.T) {
	document, err := os.ReadFile("SECURITY.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := map[string]string{}
	for _, b := range regexp.MustCompile("(?s)```([a-z]+)\n(.*?)```").FindAllStringSubmatch(string(document), -1) {
		blocks[b[1]] += b[2]
	}
	for language, command := range issuers {
		t.Run(language, func(t *testing.T) {
			if blocks[language] == "" {
				t.Fatal("SECURITY.md has no lines in this language")
			}
			args := command(t, blocks[language])
			for _, ending := range []string{"", "\n", "\r\n"} {
				dir := t.TempDir()
				path := filepath.Join(dir, "secret")
				if err := os.WriteFile(path, []byte("пароль correct horse battery staple"+ending), 0o600); err != nil {
					t.Fatal(err)
				}
				issuer := exec.CommandContext(t.Context(), args[0], args[1:]...)
				issuer.Dir = dir
				token, err := issuer.Output()
				if err != nil {
					t.Fatalf("%v\n%s", err, token)
				}
				text, err := LoadSecretFile(path, nil)
				if err != nil {
					t.Fatal(err)
				}
				j, err := NewJWT(JWTConfig{Keys: secretKeys(t, text)})
				if err != nil {
					t.Fatal(err)
				}
				if id, err := j.Verify(t.Context(), strings.TrimSpace(string(token))); err != nil || id.User != "alice" {
					t.Errorf("a secret that ends with %q: %+v, %v", ending, id, err)
				}
			}
		})
	}
}
