package auth

import (
	"slices"

	"github.com/golang-jwt/jwt/v5"
)

// AllAlgorithms are the algorithms that tokens may use if there is a key of the algorithm's kind (RFC 7518,
// section 3; RFC 8037; RFC 9864).
var AllAlgorithms = []string{
	"HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519",
}

// ed25519Algorithms are two names of one algorithm. RFC 8037 has one name for Ed25519 and Ed448, EdDSA. RFC 9864 gives
// each of the two a name of its own.
var ed25519Algorithms = []string{"EdDSA", "Ed25519"}

// withBothNames returns the algorithms. If they have one name of Ed25519, it adds the other.
func withBothNames(algorithms []string) []string {
	for i, name := range ed25519Algorithms {
		if other := ed25519Algorithms[1-i]; slices.Contains(algorithms, name) && !slices.Contains(algorithms, other) {
			return append(slices.Clone(algorithms), other)
		}
	}
	return algorithms
}

// methodEd25519 is the library's method for EdDSA under its other name.
type methodEd25519 struct{ *jwt.SigningMethodEd25519 }

// Alg implements [jwt.SigningMethod].
func (methodEd25519) Alg() string { return "Ed25519" }

// signingMethodEd25519 is the methodEd25519 in the library's table, where the library looks up the algorithm that a
// token's header names.
var signingMethodEd25519 = func() jwt.SigningMethod {
	m := methodEd25519{jwt.SigningMethodEdDSA}
	jwt.RegisterSigningMethod(m.Alg(), func() jwt.SigningMethod { return m })
	return m
}()

var rsaAlgorithms = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}

// secretAlgorithms returns the algorithms that a secret is long enough for: a secret must be at least as
// long as the algorithm's hash (RFC 7518, section 3.2).
func secretAlgorithms(secret []byte) []string {
	switch n := len(secret); {
	case n >= 64:
		return []string{"HS256", "HS384", "HS512"}
	case n >= 48:
		return []string{"HS256", "HS384"}
	default:
		return []string{"HS256"}
	}
}
