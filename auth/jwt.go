package auth

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const (
	defaultLeeway = 30 * time.Second
	maxLeeway     = 5 * time.Minute

	claimUser        = "sub"
	claimPermissions = "permissions"
	permitPublish    = "publish"
)

// algorithms are the only ones taken, whatever a token's header says: "none" and a public key used
// as a secret are the classic ways in (RFC 8725, sections 2.1 and 3.1).
var algorithms = []string{jwt.SigningMethodHS256.Alg()}

// JWTConfig says which tokens are good.
type JWTConfig struct {
	// Secret is the HS256 key, of at least 32 bytes.
	Secret []byte
	// UserClaim names the claim that holds the user, a string. Empty: "sub".
	UserClaim string
	// Leeway is how far the issuer's clock and ours may differ, at most 5 min. Zero: not at all.
	Leeway time.Duration
	// Now is the clock. Nil: [time.Now].
	Now func() time.Time
}

// JWT takes bearer tokens (RFC 6750) that are JWTs (RFC 7519) signed with HS256 and expire. The claim
// "permissions" is a list of strings; "publish" in it allows writing notifications.
type JWT struct {
	cfg    JWTConfig
	parser *jwt.Parser
}

// NewJWT returns an error that says what to do if the secret is too short or the leeway too long.
func NewJWT(cfg JWTConfig) (*JWT, error) {
	if err := checkSecret(cfg.Secret); err != nil {
		return nil, err
	}
	if cfg.Leeway < 0 || cfg.Leeway > maxLeeway {
		return nil, fmt.Errorf("the leeway for tokens is %v, want 0 to %v", cfg.Leeway, maxLeeway)
	}
	if cfg.UserClaim == "" {
		cfg.UserClaim = claimUser
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	opts := []jwt.ParserOption{
		jwt.WithValidMethods(algorithms), jwt.WithLeeway(cfg.Leeway), jwt.WithTimeFunc(cfg.Now), jwt.WithStrictDecoding(),
		jwt.WithExpirationRequired(), // one without could not be taken back but by a new secret
	}
	return &JWT{cfg, jwt.NewParser(opts...)}, nil
}

// LoadJWT reads the secret from a file; [LoadSecretFile] says what it warns of on logger. The user is
// the claim "sub", and clocks may differ by 30 s.
func LoadJWT(path string, logger *slog.Logger) (*JWT, error) {
	secret, err := LoadSecretFile(path, logger)
	if err != nil {
		return nil, err
	}
	return NewJWT(JWTConfig{Secret: secret, Leeway: defaultLeeway})
}

// Authenticate implements [Authenticator]. The identity expires when the token is no longer taken,
// which is its "exp" and the leeway.
func (j *JWT) Authenticate(r *http.Request) (Identity, error) {
	token, err := bearer(r.Header)
	if err != nil {
		return Identity{}, err
	}
	// A map and not a struct: encoding/json matches a struct's fields in any case, so "SUB" would
	// be as good as "sub".
	claims := jwt.MapClaims{}
	parsed, err := j.parser.ParseWithClaims(token, claims, func(*jwt.Token) (any, error) { return j.cfg.Secret, nil })
	switch {
	case err == nil:
	case errors.Is(err, jwt.ErrTokenExpired):
		return Identity{}, ErrExpired
	case errors.Is(err, jwt.ErrTokenNotValidYet):
		return Identity{}, ErrNotYetValid
	default:
		return Identity{}, fmt.Errorf("%w: %w", ErrInvalidToken, err)
	}
	if _, ok := parsed.Header["crit"]; ok {
		// RFC 7515, section 4.1.11: what is critical and not understood makes a token invalid.
		// The library does not look at it, and we understand no extension.
		return Identity{}, fmt.Errorf("%w: critical header parameters", ErrInvalidToken)
	}
	return j.identity(claims)
}

// identity reads the claims of a token whose signature and times are good.
func (j *JWT) identity(claims jwt.MapClaims) (Identity, error) {
	user, ok := claims[j.cfg.UserClaim].(string)
	if !ok {
		return Identity{}, fmt.Errorf("%w: the claim %q is missing or not a string", ErrUser, j.cfg.UserClaim)
	}
	if err := CheckUser(user); err != nil {
		return Identity{}, err
	}
	expires, err := claims.GetExpirationTime()
	if err == nil && expires == nil {
		err = jwt.ErrTokenRequiredClaimMissing
	}
	if err != nil { // the parser has looked at it before: this is to fail closed
		return Identity{}, fmt.Errorf("%w: %w", ErrInvalidToken, err)
	}
	publish, err := mayPublish(claims)
	if err != nil {
		return Identity{}, err
	}
	return Identity{User: user, Expires: expires.Add(j.cfg.Leeway), Publish: publish}, nil
}

// mayPublish is strict about the claim's shape: reading "publish" out of some other shape would be
// a guess about a right.
func mayPublish(claims jwt.MapClaims) (bool, error) {
	claim, ok := claims[claimPermissions]
	if !ok {
		return false, nil
	}
	list, ok := claim.([]any)
	if !ok || slices.ContainsFunc(list, func(p any) bool { _, isString := p.(string); return !isString }) {
		return false, fmt.Errorf("%w: the claim %q is not a list of strings", ErrInvalidToken, claimPermissions)
	}
	return slices.Contains(list, any(permitPublish)), nil
}

// Sign makes a token that Authenticate takes. It is for development and tests: Herald is no issuer.
// A zero Expires makes a token that does not expire, which is not taken. The error is [ErrUser].
func (j *JWT) Sign(id Identity) (string, error) {
	if err := CheckUser(id.User); err != nil {
		return "", err
	}
	claims := jwt.MapClaims{j.cfg.UserClaim: id.User, "iat": j.cfg.Now().Unix()}
	if !id.Expires.IsZero() {
		claims["exp"] = id.Expires.Unix()
	}
	if id.Publish {
		claims[claimPermissions] = []string{permitPublish}
	}
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString(j.cfg.Secret)
	if err != nil {
		return "", fmt.Errorf("sign token: %w", err)
	}
	return token, nil
}
