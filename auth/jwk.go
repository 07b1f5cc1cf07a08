package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"

	"github.com/MicahParks/jwkset"
)

func (j *JWKS) fetch(ctx context.Context) ([]key, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, j.cfg.URL, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", "application/jwk-set+json, application/json")
	answer, err := j.client.Do(r)
	if err != nil {
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err // without the URL, which is beside it
		}
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %d, want 200 (redirects are not followed)", answer.StatusCode)
	}
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxJWKS+1))
	if err != nil {
		return nil, err
	}
	return j.parse(text)
}

// parse reads a key set. What no token can be verified with is left out; a set without anything else
// is an error.
func (j *JWKS) parse(text []byte) ([]key, error) {
	if len(text) > maxJWKS {
		return nil, fmt.Errorf("the answer is longer than %d bytes", maxJWKS)
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(text, &set); err != nil {
		return nil, errors.New("the answer is no key set")
	}
	if len(set.Keys) > maxJWKSKeys {
		return nil, fmt.Errorf("the set has %d keys, want at most %d", len(set.Keys), maxJWKSKeys)
	}
	var keys []key
	for i := range set.Keys {
		k, err := parseJWK(set.Keys[i])
		if err != nil { // of another kind, or for another use: sets have such keys
			j.cfg.Logger.Debug("a key of the set is left out", "url", j.cfg.URL, "number", i, "error", err)
			continue
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("no key for tokens among the %d of the set", len(set.Keys))
	}
	return keys, nil
}

// parseJWK returns a public key for signatures (RFC 7517, section 4).
func parseJWK(text []byte) (key, error) {
	var m jwkset.JWKMarshal
	if err := json.Unmarshal(text, &m); err != nil {
		return key{}, err
	}
	switch {
	case m.KTY == jwkset.KtyOct || m.K != "" || m.D != "":
		return key{}, errors.New("a secret or private key: it is known to everybody")
	case m.USE != "" && m.USE != jwkset.UseSig:
		return key{}, errors.New("not for signatures")
	case len(m.KEYOPS) > 0 && !slices.Contains(m.KEYOPS, jwkset.KeyOpsVerify):
		return key{}, errors.New("not for verifying")
	case len(m.KID) > maxKeyID:
		return key{}, errors.New("its id is too long")
	}
	m.X5C, m.X5T, m.X5TS256, m.X5U = nil, "", "", "" // the key is trusted as it is, nothing is fetched
	jwk, err := jwkset.NewJWKFromMarshal(m, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{})
	if err != nil {
		return key{}, err
	}
	k, err := newKey(m.KID, jwk.Key())
	if err != nil {
		return key{}, err
	}
	if m.ALG != "" { // the issuer narrows it
		k.algorithms = slices.DeleteFunc(slices.Clone(k.algorithms), func(a string) bool { return a != string(m.ALG) })
		if len(k.algorithms) == 0 {
			return key{}, errors.New("not for an algorithm of tokens")
		}
	}
	return k, nil
}
