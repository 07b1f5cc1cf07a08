package auth

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"
	"time"
)

const (
	minRSA = 2048 // bits (RFC 7518, section 3.3)
	maxRSA = 8192 // bits: a larger key would make each verification expensive
)

// key verifies signatures with the algorithms of its kind and no others, whatever algorithm a token's
// header names. Otherwise an attacker could use a public RSA key as the secret of HS256, the classic attack
// on JWTs (RFC 8725, sections 2.1 and 3.1).
type key struct {
	id         string // compared with a token's "kid"; empty: the key has no id
	algorithms []string
	value      any // of a type that the JWT library accepts: []byte, *rsa.PublicKey, *ecdsa.PublicKey or ed25519.PublicKey
}

// Keys verify the signatures of tokens. [Secret], [PublicKeys] and [JWKS] are Keys.
type Keys interface {
	// findKeys returns the keys for a token whose header has the "kid" kid, which may be empty. An error
	// wraps [ErrInvalidToken] or [ErrUnavailable].
	findKeys(ctx context.Context, kid string) ([]key, error)
	// fetchAgain waits for newer keys, for a token that no key verifies which findKeys returned at the time
	// found. It reports whether there may be other keys now. The end of ctx ends the wait.
	fetchAgain(ctx context.Context, found time.Time) bool
	// algorithms returns the algorithms of the keys, sorted; nil if the keys are not known yet.
	algorithms() []string
}

// newKey returns a key for a public key of the standard library or for the bytes of a secret. The key
// allows the algorithms of its kind.
func newKey(id string, value any) (key, error) {
	switch k := value.(type) {
	case []byte:
		return key{id, secretAlgorithms(k), k}, checkSecret(k)
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits < minRSA || bits > maxRSA {
			return key{}, fmt.Errorf("an RSA key of %d bits: want %d to %d", bits, minRSA, maxRSA)
		}
		if k.N.Bit(0) == 0 || k.E < 3 || k.E%2 == 0 {
			return key{}, errors.New("a damaged RSA key: its modulus and its exponent must be odd, and the exponent more than 1")
		}
		return key{id, rsaAlgorithms, k}, nil
	case *ecdsa.PublicKey:
		switch name := k.Curve.Params().Name; name {
		case "P-256":
			return key{id, []string{"ES256"}, k}, nil
		case "P-384":
			return key{id, []string{"ES384"}, k}, nil
		case "P-521":
			return key{id, []string{"ES512"}, k}, nil
		default:
			return key{}, fmt.Errorf("an elliptic curve key on %s: want P-256, P-384 or P-521", name)
		}
	case ed25519.PublicKey:
		return key{id, ed25519Algorithms, k}, nil
	}
	return key{}, fmt.Errorf("a key of the type %T: want RSA, ECDSA or Ed25519", value)
}

// fixedKeys are keys from files. They have no ids, so the "kid" of a token does not select among them.
type fixedKeys []key

func (k fixedKeys) findKeys(context.Context, string) ([]key, error) { return k, nil }

func (k fixedKeys) fetchAgain(context.Context, time.Time) bool { return false }

func (k fixedKeys) algorithms() []string {
	var all []string
	for _, one := range k {
		all = append(all, one.algorithms...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Secret returns keys that verify HS256, from 48 bytes on HS384 too, and from 64 bytes on HS512 too. A token is good if
// one of the secrets has signed it. A secret of less than 32 bytes is an error, which says how to make one.
func Secret(secrets ...[]byte) (Keys, error) {
	var keys fixedKeys
	for _, secret := range secrets {
		k, err := newKey("", secret)
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	return keys, nil
}
