package auth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const (
	// DefaultLeeway is how far the clocks of the issuer and of this machine may differ.
	DefaultLeeway = 30 * time.Second
	maxLeeway     = 5 * time.Minute
	maxKeyID      = 256 // bytes
)

// JWTConfig says which tokens are good.
type JWTConfig struct {
	// Keys verify the signature.
	Keys Keys
	// Algorithms narrow those that Keys allow by their kinds. Nil: all of them.
	Algorithms []string
	// Issuer is what "iss" must be. Empty: anything.
	Issuer string
	// Audiences are those of which "aud" must have one. Nil: anything, so a token that the issuer
	// made for another service is good here too (RFC 8725, section 3.9).
	Audiences []string
	// UserClaim names the claim that holds the user, a string. Empty: "sub".
	UserClaim string
	// Leeway is how far the issuer's clock and ours may differ, at most 5 min. Zero: not at all.
	Leeway time.Duration
	// Revocations are tokens that hold no more. Nil: there are none.
	Revocations *Revocations
	// Sources say where a request has its token.
	Sources Sources
	// Now is the clock. Nil: [time.Now].
	Now func() time.Time
}

// JWT takes tokens that are JWTs (RFC 7519) and expire. Their claims are those of [Identity].
type JWT struct {
	cfg    JWTConfig
	parser *jwt.Parser
}

// NewJWT returns an error that says what to do if cfg cannot be.
func NewJWT(cfg JWTConfig) (*JWT, error) {
	if cfg.Keys == nil {
		return nil, errors.New("there are no keys for tokens")
	}
	if cfg.Leeway < 0 || cfg.Leeway > maxLeeway {
		return nil, fmt.Errorf("the leeway for tokens is %v, want 0 to %v", cfg.Leeway, maxLeeway)
	}
	if err := checkAlgorithms(cfg.Algorithms, cfg.Keys.algorithms()); err != nil {
		return nil, err
	}
	if cfg.Algorithms == nil {
		cfg.Algorithms = AllAlgorithms
	}
	if cfg.UserClaim == "" {
		cfg.UserClaim = claimUser
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	opts := []jwt.ParserOption{
		jwt.WithValidMethods(cfg.Algorithms), jwt.WithLeeway(cfg.Leeway), jwt.WithTimeFunc(cfg.Now), jwt.WithStrictDecoding(),
		jwt.WithExpirationRequired(), // one without could not be taken back but by a new key
		jwt.WithIssuedAt(),           // one from the future would outlive its user's revocation
	}
	if cfg.Issuer != "" {
		opts = append(opts, jwt.WithIssuer(cfg.Issuer))
	}
	if cfg.Audiences != nil {
		opts = append(opts, jwt.WithAudience(cfg.Audiences...))
	}
	return &JWT{cfg, jwt.NewParser(opts...)}, nil
}

// checkAlgorithms refuses what is no algorithm, and what no key is for. has is nil where the keys are
// not known yet.
func checkAlgorithms(wanted, has []string) error {
	for _, a := range wanted {
		if !slices.Contains(AllAlgorithms, a) {
			return fmt.Errorf("%q is no algorithm for tokens: want some of %s", a, strings.Join(AllAlgorithms, ", "))
		}
		if has != nil && !slices.Contains(has, a) {
			return fmt.Errorf("no key is for %s: those given are for %s", a, strings.Join(has, ", "))
		}
	}
	return nil
}

// Authenticate implements [Authenticator]. The identity expires when the token is no longer taken,
// which is its "exp" and the leeway.
func (j *JWT) Authenticate(r *http.Request) (Identity, error) {
	token, err := j.cfg.Sources.Token(r)
	if err != nil {
		return Identity{}, err
	}
	return j.Verify(r.Context(), token)
}

// Verify returns the identity that the token proves. ctx bounds how long keys are waited for.
func (j *JWT) Verify(ctx context.Context, token string) (Identity, error) {
	if len(token) > maxToken {
		return Identity{}, fmt.Errorf("%w: longer than %d bytes", ErrInvalidToken, maxToken)
	}
	// A map and not a struct: encoding/json matches a struct's fields in any case, so "SUB" would
	// be as good as "sub".
	claims := jwt.MapClaims{}
	_, err := j.parser.ParseWithClaims(token, claims, func(t *jwt.Token) (any, error) { return j.keys(ctx, t) })
	switch {
	case err == nil:
		id, err := j.identity(claims)
		if err == nil {
			err = j.cfg.Revocations.check(id)
		}
		if err != nil {
			return Identity{}, err
		}
		return id, nil
	case errors.Is(err, ErrUnavailable):
		return Identity{}, err
	case errors.Is(err, jwt.ErrTokenInvalidAudience), errors.Is(err, jwt.ErrTokenInvalidIssuer):
		return Identity{}, fmt.Errorf("%w: %w", ErrInvalidToken, err)
	case errors.Is(err, jwt.ErrTokenExpired):
		return Identity{}, ErrExpired
	case errors.Is(err, jwt.ErrTokenNotValidYet), errors.Is(err, jwt.ErrTokenUsedBeforeIssued):
		return Identity{}, ErrNotYetValid
	}
	return Identity{}, fmt.Errorf("%w: %w", ErrInvalidToken, err)
}

// keys returns those that may verify the token. Of its header only "kid" chooses among them, by
// comparison: "jwk", "jku", "x5c" and "x5u" would let the token bring its own.
func (j *JWT) keys(ctx context.Context, t *jwt.Token) (any, error) {
	if _, ok := t.Header["crit"]; ok {
		// RFC 7515, section 4.1.11: what is critical and not understood makes a token invalid.
		// The library does not look at it, and we understand no extension.
		return nil, errors.New("critical header parameters")
	}
	kid := ""
	if value, ok := t.Header["kid"]; ok {
		if kid, ok = value.(string); !ok || len(kid) > maxKeyID {
			return nil, fmt.Errorf("the header parameter kid is no string of up to %d bytes", maxKeyID)
		}
	}
	keys, err := j.cfg.Keys.find(ctx, kid)
	if err != nil {
		return nil, err
	}
	set := jwt.VerificationKeySet{}
	for _, k := range keys {
		if slices.Contains(k.algorithms, t.Method.Alg()) {
			set.Keys = append(set.Keys, k.value)
		}
	}
	if len(set.Keys) == 0 {
		return nil, errors.New("the key is not for the token's algorithm")
	}
	return set, nil
}
