package auth

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
)

const (
	// minSecret is in bytes: a key of HS256 is at least as long as its hash (RFC 7518, section 3.2).
	minSecret = 32
	// maxSecretFile is in bytes: more is not a secret but a wrong file.
	maxSecretFile = 64 << 10
)

// checkSecret returns an error unless the secret is long enough.
func checkSecret(secret []byte) error {
	switch {
	case len(secret) == 0:
		return errors.New("the JWT secret is empty: make one with herald token --new-secret FILE")
	case len(secret) < minSecret:
		return fmt.Errorf("the JWT secret has %d bytes, HS256 needs at least %d: make one with herald token --new-secret FILE", len(secret), minSecret)
	}
	return nil
}

// LoadSecretFile reads an HS256 secret: the file's bytes, without one line break at the end. It
// warns on logger, which may be nil, when everybody on the machine can read the file.
func LoadSecretFile(path string, logger *slog.Logger) ([]byte, error) {
	f, err := os.Open(path) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, fmt.Errorf("JWT secret: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read
	text, err := io.ReadAll(io.LimitReader(f, maxSecretFile+1))
	if err != nil {
		return nil, fmt.Errorf("JWT secret: %w", err)
	}
	if len(text) > maxSecretFile {
		return nil, fmt.Errorf("JWT secret: %s is longer than %d bytes: is it the right file?", path, maxSecretFile)
	}
	text = bytes.TrimSuffix(text, []byte("\n"))
	text = bytes.TrimSuffix(text, []byte("\r"))
	if err := checkSecret(text); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if stat, err := f.Stat(); err == nil && stat.Mode().Perm()&0o004 != 0 && logger != nil {
		logger.Warn("everybody on this machine can read the JWT secret", "file", path, "mode", stat.Mode().Perm().String())
	}
	return text, nil
}

// WriteSecretFile writes a fresh secret (512 random bits as 86 characters and a line break, enough for
// HS512) that only its owner can read. A file that exists is left as it is: the error is [os.ErrExist].
func WriteSecretFile(path string) error {
	secret := make([]byte, 64)
	_, _ = rand.Read(secret) // never fails
	text := base64.RawURLEncoding.AppendEncode(nil, secret)
	if err := writeNew(path, 0o600, append(text, '\n')); err != nil {
		return fmt.Errorf("new JWT secret: %w", err)
	}
	return nil
}
