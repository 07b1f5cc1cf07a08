package auth

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// maxToken bounds a token, in bytes, before anything decodes it.
const maxToken = 8 << 10

// bearer returns the token of the Authorization header (RFC 6750, section 2.1). The scheme's name
// is case-insensitive (RFC 9110, section 11.1).
func bearer(h http.Header) (string, error) {
	values := h.Values("Authorization")
	if len(values) == 0 {
		return "", ErrNoToken
	}
	if len(values) > 1 {
		// A proxy in front may have looked at another one than we would.
		return "", fmt.Errorf("%w: more than one Authorization header", ErrInvalidToken)
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return "", ErrNoToken
	}
	token = strings.Trim(token, " ")
	switch {
	case token == "":
		return "", ErrNoToken
	case len(token) > maxToken:
		return "", fmt.Errorf("%w: longer than %d bytes", ErrInvalidToken, maxToken)
	}
	return token, nil
}

// Challenge is the WWW-Authenticate header that a 401 for err needs (RFC 6750, section 3). A
// request without a token gets no error code: it did nothing wrong.
func Challenge(err error) string {
	switch {
	case errors.Is(err, ErrNoToken):
		return "Bearer"
	case errors.Is(err, ErrExpired):
		return `Bearer error="invalid_token", error_description="the token expired"`
	case errors.Is(err, ErrNotYetValid):
		return `Bearer error="invalid_token", error_description="the token is not yet valid"`
	default:
		return `Bearer error="invalid_token"`
	}
}
