//go:build unix

package login

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestTokenFileIsAPipe names a pipe that nobody writes to. A log-in must not wait for a writer: nothing would end it.
func TestTokenFileIsAPipe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	failed := make(chan error, 1)
	go func() {
		_, err := File(path).Token(t.Context())
		failed <- err
	}()
	select {
	case err := <-failed:
		if err == nil || !strings.HasPrefix(err.Error(), "--kafka-oauth-token-file: "+path+" is not a regular file") {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("waits for a writer")
	}
}
