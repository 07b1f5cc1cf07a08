package auth

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"herald/textfile"
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
	// fetchAgain is called when none of the keys that findKeys returned after the time found verifies a
	// token. It reports whether there may be other keys now. The end of ctx ends a wait for them.
	fetchAgain(ctx context.Context, found time.Time) bool
	// algorithms returns the algorithms of the keys, sorted; nil if the keys are not known yet.
	algorithms() []string
}

// AllAlgorithms are the algorithms that tokens may use if there is a key of the algorithm's kind (RFC 7518,
// section 3; RFC 8037; RFC 9864).
var AllAlgorithms = []string{
	"HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519",
}

// ed25519Algorithms are two names of one algorithm. RFC 8037 calls it EdDSA, as it calls Ed448; RFC 9864 gives each of
// the two its own name.
var ed25519Algorithms = []string{"EdDSA", "Ed25519"}

// withBothNames returns the algorithms with both names of EdDSA if they have one of the two.
func withBothNames(algorithms []string) []string {
	for i, name := range ed25519Algorithms {
		if other := ed25519Algorithms[1-i]; slices.Contains(algorithms, name) && !slices.Contains(algorithms, other) {
			return append(slices.Clone(algorithms), other)
		}
	}
	return algorithms
}

// methodEd25519 is the library's method for EdDSA by its other name.
type methodEd25519 struct{ *jwt.SigningMethodEd25519 }

// Alg implements [jwt.SigningMethod].
func (methodEd25519) Alg() string { return "Ed25519" }

// signingMethodEd25519 is in the library's table of methods, in which the library finds the method of a token by the name
// in its header.
var signingMethodEd25519 = func() jwt.SigningMethod {
	m := methodEd25519{jwt.SigningMethodEdDSA}
	jwt.RegisterSigningMethod(m.Alg(), func() jwt.SigningMethod { return m })
	return m
}()

var rsaAlgorithms = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}

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

// Secret returns keys that verify HS256, from 48 bytes on HS384 too, and from 64 bytes on HS512 too. A
// secret of less than 32 bytes is an error, which says how to make one.
func Secret(secret []byte) (Keys, error) {
	k, err := newKey("", secret)
	if err != nil {
		return nil, err
	}
	return fixedKeys{k}, nil
}

// PublicKeys reads PEM files of public keys or of certificates. It does not check the dates and issuers of
// certificates, because the operator vouches for the files. An error names the file.
func PublicKeys(paths ...string) (Keys, error) {
	var keys fixedKeys
	for _, path := range paths {
		text, err := textfile.Read(path, textfile.MaxPEM)
		if err != nil {
			return nil, err
		}
		some, err := parsePublicKeys(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		keys = append(keys, some...)
	}
	if len(keys) == 0 {
		return nil, errors.New("no file with a public key is given")
	}
	return keys, nil
}

func parsePublicKeys(text []byte) ([]key, error) {
	var keys []key
	for rest := text; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		value, err := parsePublicKey(block)
		if err != nil {
			return nil, err
		}
		k, err := newKey("", value)
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 || len(keys) < bytes.Count(text, []byte(pemBegin)) {
		return nil, explainNoPEM(text, "no public key or certificate in PEM")
	}
	return keys, nil
}

// pemBegin begins a PEM block (RFC 7468, section 2).
const pemBegin = "-----BEGIN "

// explainNoPEM returns an error that begins with problem and says what a text is from which no PEM block can be read,
// or not each of its blocks.
func explainNoPEM(text []byte, problem string) error {
	if bytes.Contains(text, []byte(pemBegin)) {
		return errors.New("a PEM block is damaged: the lines -----BEGIN … and -----END … stand alone, with nothing before them, and only base64 between them")
	}
	if c := identify(text); c != nil {
		return fmt.Errorf("%s: %s", problem, c)
	}
	return fmt.Errorf("%s: a secret goes to --jwt-secret-file", problem)
}

func parsePublicKey(block *pem.Block) (any, error) {
	switch {
	case block.Type == "PUBLIC KEY":
		value, err := x509.ParsePKIXPublicKey(block.Bytes)
		return value, explainAlgorithm(block.Bytes, err)
	case block.Type == "RSA PUBLIC KEY":
		return x509.ParsePKCS1PublicKey(block.Bytes)
	case block.Type == "CERTIFICATE":
		c, err := x509.ParseCertificate(block.Bytes)
		if err == nil && c.PublicKey == nil {
			err = explainAlgorithm(c.RawSubjectPublicKeyInfo, errors.New("a key of an unknown kind"))
		}
		if err != nil {
			return nil, fmt.Errorf("a certificate: %w", err)
		}
		return c.PublicKey, nil
	case strings.Contains(block.Type, "PRIVATE KEY"):
		return nil, errors.New("this is a private key, which only the issuer of tokens should have: give the public key (openssl pkey -pubout)")
	}
	return nil, fmt.Errorf("%q in PEM: want PUBLIC KEY or CERTIFICATE", block.Type)
}

// unusableKeys are the kinds of public keys (RFC 5480, RFC 8410, RFC 4055) that Herald does not use, by their
// identifiers.
var unusableKeys = map[string]string{
	"1.2.840.113549.1.1.10": "an RSA key for RSASSA-PSS only",
	"1.3.132.0.10":          "an elliptic curve key on secp256k1 (ES256K)",
	"1.3.101.110":           "a key on X25519, which cannot sign",
	"1.3.101.111":           "a key on X448, which cannot sign",
	"1.3.101.113":           "a key on Ed448",
}

// explainAlgorithm returns an error that names the kind of a public key in DER (RFC 5280, section 4.1) which the
// standard library cannot read: err says so. It returns nil if err is nil.
func explainAlgorithm(der []byte, err error) error {
	if err == nil {
		return nil
	}
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if _, bad := asn1.Unmarshal(der, &info); bad != nil {
		return err
	}
	name := info.Algorithm.Algorithm.String()
	var curve asn1.ObjectIdentifier
	if _, bad := asn1.Unmarshal(info.Algorithm.Parameters.FullBytes, &curve); bad == nil {
		name = curve.String()
	}
	kind, ok := unusableKeys[name]
	if !ok {
		return err
	}
	return fmt.Errorf("%s: want RSA, ECDSA on P-256, P-384 or P-521, or Ed25519", kind)
}
