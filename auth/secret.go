package auth

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"herald/auth/textfile"
)

// minSecret is the shortest secret, in bytes: a secret for HS256 must be at least as long as its hash
// (RFC 7518, section 3.2).
const minSecret = 32

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

// LoadSecretFile reads an HS256 secret: the file's text, as [textfile.Secret] returns it. It refuses contents that are
// public or meant for another flag, such as a public key: everybody who knows them could sign tokens (RFC 8725,
// section 2.1). If every user of the machine can read the file, it logs a warning on logger, which may be nil.
func LoadSecretFile(path string, logger *slog.Logger) ([]byte, error) {
	text, err := textfile.Read(path, textfile.MaxSecret)
	if err != nil {
		return nil, fmt.Errorf("JWT secret: %w", err)
	}
	if c := recognize(text); c != nil {
		return nil, fmt.Errorf("%s is not a secret: %s", path, c)
	}
	secret, err := textfile.Secret(text)
	if errors.Is(err, textfile.ErrEmpty) {
		return nil, fmt.Errorf("the file %s %w: make one with herald token --new-secret FILE", path, err)
	}
	if err != nil {
		return nil, fmt.Errorf("JWT secret: %s %w", path, err)
	}
	if err := checkSecret(secret); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if stat, err := os.Stat(path); err == nil && stat.Mode().Perm()&0o004 != 0 && logger != nil {
		logger.Warn("JWT secret loaded from a file that every user of this machine can read", "file", path, "mode", stat.Mode().Perm().String())
	}
	return secret, nil
}

// WriteSecretFile writes a new secret to a file that only its owner can read: 512 random bits as 86
// characters and a line break, enough for HS512. It does not change a file that exists: the error is
// [os.ErrExist].
func WriteSecretFile(path string) error {
	secret := make([]byte, 64)
	_, _ = rand.Read(secret) // never fails
	text := base64.RawURLEncoding.AppendEncode(nil, secret)
	if err := writeNewFile(path, 0o600, append(text, '\n')); err != nil {
		return fmt.Errorf("new JWT secret: %w", err)
	}
	return nil
}
