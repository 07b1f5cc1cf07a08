package auth

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/MicahParks/jwkset"

	"herald/auth/textfile"
)

// jwkSet has the keys of a JSON Web Key Set.
type jwkSet struct {
	keys    []key
	leftOut map[string]error // by id: why a key cannot verify tokens
	date    time.Time        // the server's time, from the header Date; zero: it did not say
}

// parseKeySet reads a key set. It leaves out keys that cannot verify tokens: a set may hold keys of other kinds
// and for other uses. A set without any key for tokens is an error, which says why the first key was left out.
func parseKeySet(text []byte) (jwkSet, error) {
	if len(text) > maxJWKS {
		return jwkSet{}, fmt.Errorf("the response is longer than %d bytes", maxJWKS)
	}
	text = bytes.TrimPrefix(text, []byte("\ufeff")) // RFC 8259, section 8.1, lets readers ignore it
	var parsed struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(text, &parsed); err != nil || parsed.Keys == nil {
		return jwkSet{}, explainNoKeySet(text)
	}
	if len(parsed.Keys) > maxJWKSKeys {
		return jwkSet{}, fmt.Errorf("the set has %d keys, want at most %d", len(parsed.Keys), maxJWKSKeys)
	}
	set := jwkSet{leftOut: make(map[string]error)}
	var first error
	for i := range parsed.Keys {
		k, err := parseJWK(parsed.Keys[i])
		if err == nil {
			set.keys = append(set.keys, k)
			continue
		}
		set.leftOut[k.id] = fmt.Errorf("the key set's key was left out: %w", err)
		if first == nil {
			first = err
		}
	}
	switch {
	case len(parsed.Keys) == 0:
		return jwkSet{}, errors.New("the set has no keys: its list \"keys\" is empty")
	case len(set.keys) == 0:
		return set, fmt.Errorf("the set has no key for tokens; the first of its %d was left out: %w", len(parsed.Keys), first)
	}
	return set, nil
}

// explainNoKeySet returns an error for a response that is not a key set. It says what the response is.
func explainNoKeySet(text []byte) error {
	text = bytes.TrimSpace(text)
	var members map[string]json.RawMessage
	isObject := json.Unmarshal(text, &members) == nil
	_, hasKeys := members["keys"]
	c := recognize(text)
	switch encoding := textfile.CheckEncoding(text); {
	case len(text) == 0:
		return errors.New("the response is empty")
	case encoding != nil:
		return fmt.Errorf("the response %w", encoding)
	case text[0] == '<':
		return errors.New("the response is HTML or XML, such as the page of a proxy or of a login, not a key set")
	case hasKeys:
		return errors.New("the response is not a key set: its member \"keys\" is not a list")
	case c != nil && c.what != otherJSON:
		return fmt.Errorf("the response is not a key set: %s", c)
	case isObject:
		names := slices.Sorted(maps.Keys(members))
		return fmt.Errorf("the response is not a key set: the list \"keys\" is missing, and its members are %.100q", names[:min(len(names), 5)])
	}
	return errors.New("the response is not a key set: it is not JSON with the list \"keys\"")
}

// parseJWK reads a public key that verifies signatures (RFC 7517, section 4). Beside an error, it
// returns a key that has nothing but its id.
func parseJWK(text []byte) (key, error) {
	var m jwkset.JWKMarshal
	err := json.Unmarshal(text, &m)
	wrong, ok := errors.AsType[*json.UnmarshalTypeError](err)
	switch {
	case ok && wrong.Field == "":
		return key{}, fmt.Errorf("it is a %s, not an object", wrong.Value)
	case ok:
		return key{}, fmt.Errorf("its member %q is a %s, which it must not be", wrong.Field, wrong.Value)
	case err != nil:
		return key{}, err
	case len(m.KID) > maxKeyID:
		return key{}, fmt.Errorf(`its "kid" is longer than %d bytes`, maxKeyID)
	}
	k, err := newJWKKey(m)
	k.id = m.KID
	return k, err
}

// newJWKKey returns the key that the members m describe.
func newJWKKey(m jwkset.JWKMarshal) (key, error) {
	switch {
	case m.KTY == jwkset.KtyOct || m.K != "" || m.D != "":
		return key{}, errors.New("a secret or private key, which the key set has made public")
	case m.USE != "" && m.USE != jwkset.UseSig:
		return key{}, fmt.Errorf(`its "use" is %.40q, not sig`, m.USE)
	case len(m.KEYOPS) > 0 && !slices.Contains(m.KEYOPS, jwkset.KeyOpsVerify):
		return key{}, errors.New(`its "key_ops" lacks verify`)
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
