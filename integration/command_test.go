package integration

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// runHerald runs a command of the built binary with an empty environment and returns its output.
func runHerald(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	command := exec.CommandContext(t.Context(), heraldBinary(t), args...)
	command.Env = []string{}
	var printed, complaints bytes.Buffer
	command.Stdout, command.Stderr = &printed, &complaints
	err = command.Run()
	return printed.String(), complaints.String(), err
}

// newToken returns what herald token prints.
func newToken(t *testing.T, args ...string) string {
	t.Helper()
	out, complaints, err := runHerald(t, append([]string{"token"}, args...)...)
	if err != nil {
		t.Fatalf("herald token %q: %v\n%s", args, err, complaints)
	}
	return strings.TrimSpace(out)
}

// newSecretFile returns a file with a new secret for tokens.
func newSecretFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	newToken(t, "--new-secret="+path)
	return path
}
