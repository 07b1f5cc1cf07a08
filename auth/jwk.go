package auth

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/MicahParks/jwkset"
)

// parseKeySet reads a key set. It skips keys that cannot verify tokens: a set may hold keys of other kinds
// and for other uses. A set without any key for tokens is an error.
func (j *JWKS) parseKeySet(text []byte) ([]key, error) {
	if len(text) > maxJWKS {
		return nil, fmt.Errorf("the response is longer than %d bytes", maxJWKS)
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(text, &set); err != nil {
		return nil, errors.New("the response is not a key set")
	}
	if len(set.Keys) > maxJWKSKeys {
		return nil, fmt.Errorf("the set has %d keys, want at most %d", len(set.Keys), maxJWKSKeys)
	}
	var keys []key
	for i := range set.Keys {
		k, err := parseJWK(set.Keys[i])
		if err != nil {
			j.cfg.Logger.Debug("key of the key set skipped", "url", j.cfg.URL, "number", i, "error", err)
			continue
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("none of the %d keys of the set is for tokens", len(set.Keys))
	}
	return keys, nil
}

// parseJWK reads a public key that verifies signatures (RFC 7517, section 4).
func parseJWK(text []byte) (key, error) {
	var m jwkset.JWKMarshal
	if err := json.Unmarshal(text, &m); err != nil {
		return key{}, err
	}
	switch {
	case m.KTY == jwkset.KtyOct || m.K != "" || m.D != "":
		return key{}, errors.New("a secret or private key, which the key set has made public")
	case m.USE != "" && m.USE != jwkset.UseSig:
		return key{}, errors.New(`its "use" is not signatures`)
	case len(m.KEYOPS) > 0 && !slices.Contains(m.KEYOPS, jwkset.KeyOpsVerify):
		return key{}, errors.New(`its "key_ops" lacks verify`)
	case len(m.KID) > maxKeyID:
		return key{}, fmt.Errorf(`its "kid" is longer than %d bytes`, maxKeyID)
	}
	if err := checkJWKKind(&m); err != nil {
		return key{}, err
	}
	m.X5C, m.X5T, m.X5TS256, m.X5U = nil, "", "", "" // the key set itself is trusted: no certificate is fetched or read
	jwk, err := jwkset.NewJWKFromMarshal(m, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{})
	if err != nil {
		return key{}, err
	}
	k, err := newKey(m.KID, jwk.Key())
	if err != nil {
		return key{}, err
	}
	if m.ALG != "" { // the issuer allows only this algorithm for the key
		allowed := withBothNames([]string{string(m.ALG)})
		k.algorithms = slices.DeleteFunc(slices.Clone(k.algorithms), func(a string) bool { return !slices.Contains(allowed, a) })
		if len(k.algorithms) == 0 {
			return key{}, fmt.Errorf(`its "alg" %s is not an algorithm of its kind of key`, m.ALG)
		}
	}
	return k, nil
}

// checkJWKKind returns an error for a key whose algorithm or kind Herald does not use.
func checkJWKKind(m *jwkset.JWKMarshal) error {
	switch {
	case m.ALG != "" && !slices.Contains(AllAlgorithms, string(m.ALG)):
		return fmt.Errorf(`its "alg" %.40q is not one of %s`, m.ALG, strings.Join(AllAlgorithms, ", "))
	case m.KTY != jwkset.KtyRSA && m.KTY != jwkset.KtyEC && m.KTY != jwkset.KtyOKP:
		return fmt.Errorf(`its "kty" %.40q is not RSA, EC or OKP`, m.KTY)
	case m.KTY == jwkset.KtyEC && !slices.Contains([]jwkset.CRV{jwkset.CrvP256, jwkset.CrvP384, jwkset.CrvP521}, m.CRV):
		return fmt.Errorf(`its "crv" %.40q is not P-256, P-384 or P-521`, m.CRV)
	case m.KTY == jwkset.KtyOKP && m.CRV != jwkset.CrvEd25519:
		return fmt.Errorf(`its "crv" %.40q is not Ed25519`, m.CRV)
	}
	return nil
}
