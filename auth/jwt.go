package auth

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/golang-jwt/jwt/v5"
)

const (
	// DefaultLeeway is the largest allowed difference between the clocks of the issuer and of this machine
	// if the configuration sets none.
	DefaultLeeway = 30 * time.Second
	maxLeeway     = 5 * time.Minute
	maxKeyID      = 256 // bytes
)

// JWTConfig determines which tokens [JWT] accepts.
type JWTConfig struct {
	// Keys verify the signatures.
	Keys Keys
	// Algorithms restrict the algorithms that the kinds of the keys allow. Nil: no restriction.
	Algorithms []string
	// Issuer is the required value of "iss". Empty: any value.
	Issuer string
	// Audiences are the accepted values of "aud": a token must have at least one of them. Nil: any
	// value, so Herald accepts tokens that the issuer made for other services too (RFC 8725, section
	// 3.9).
	Audiences []string
	// UserClaim names the claim that holds the user's name, a string or an integer. Empty: "sub".
	UserClaim string
	// Claims are the names of other claims to read, such as the user's teams. Each may hold a string, an integer, or a
	// list of up to 100 of them. A token without the claim is good.
	Claims []string
	// CheckWhere returns an error if conditions on records, which a token may have in its grant, are not valid. Nil: a
	// token with conditions is refused.
	CheckWhere func(conditions []string) error
	// Leeway is the largest allowed difference between the clocks of the issuer and of this machine,
	// at most 5 min. Zero: no difference.
	Leeway time.Duration
	// Revocations refuse tokens before they expire. Nil: no token is revoked.
	Revocations *Revocations
	// Sources take the token out of a request.
	Sources Sources
	// Now is the clock. Nil: [time.Now].
	Now func() time.Time
}

// JWT is an [Authenticator] for tokens in the format JWT (RFC 7519) that expire. It reads an [Identity]
// from their claims.
type JWT struct {
	cfg    JWTConfig
	parser *jwt.Parser
}

// NewJWT returns an error that says what to do if cfg is invalid.
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
	cfg.Algorithms = withBothNames(cfg.Algorithms)
	if cfg.UserClaim == "" {
		cfg.UserClaim = claimUser
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	opts := []jwt.ParserOption{
		jwt.WithValidMethods(cfg.Algorithms), jwt.WithLeeway(cfg.Leeway), jwt.WithTimeFunc(cfg.Now), jwt.WithStrictDecoding(),
		jwt.WithJSONNumber(),         // as float64, the numbers of two users may be equal
		jwt.WithExpirationRequired(), // without it, a lost token would be valid until the issuer changes its key
		jwt.WithIssuedAt(),           // a token issued in the future would outlive a revocation of its user
	}
	if cfg.Issuer != "" {
		opts = append(opts, jwt.WithIssuer(cfg.Issuer))
	}
	if cfg.Audiences != nil {
		opts = append(opts, jwt.WithAudience(cfg.Audiences...))
	}
	return &JWT{cfg, jwt.NewParser(opts...)}, nil
}

// checkAlgorithms returns an error if wanted has a name that is not an algorithm for tokens, or an
// algorithm that is not in has, the algorithms of the keys. has is nil if the keys are not known yet.
func checkAlgorithms(wanted, has []string) error {
	for _, a := range wanted {
		if !slices.Contains(AllAlgorithms, a) {
			return fmt.Errorf("%q is not an algorithm for tokens: want some of %s", a, strings.Join(AllAlgorithms, ", "))
		}
		if has != nil && !slices.Contains(has, a) {
			return fmt.Errorf("no key is for %s: the given keys are for %s", a, strings.Join(has, ", "))
		}
	}
	return nil
}

// Authenticate implements [Authenticator]. The identity expires when JWT stops accepting the token: the
// leeway after the token's "exp".
func (j *JWT) Authenticate(r *http.Request) (Identity, error) {
	token, err := j.cfg.Sources.Token(r)
	if err != nil {
		return Identity{}, err
	}
	return j.Verify(r.Context(), token)
}

// Verify returns the identity that the token proves. The end of ctx ends a wait for unknown keys.
func (j *JWT) Verify(ctx context.Context, token string) (Identity, error) {
	if len(token) > maxToken {
		return Identity{}, refusedTooLong.because(nil)
	}
	parsed, claims, found, err := j.parse(ctx, token)
	if lacksKey(err) && !found.IsZero() && j.cfg.Keys.fetchAgain(ctx, found) {
		parsed, claims, _, err = j.parse(ctx, token)
	}
	if err != nil {
		return Identity{}, j.explainToken(token, parsed, claims, err)
	}
	if err := checkJSON(parsed.Raw); err != nil {
		return Identity{}, err
	}
	id, err := j.readIdentity(claims)
	if err == nil {
		err = j.cfg.Revocations.checkIdentity(id)
	}
	if err != nil {
		return Identity{}, err
	}
	return id, nil
}

// parse verifies the token's signature and times. found is the time at which parse looked for keys. It is zero for a
// token with a fault that no key could change.
func (j *JWT) parse(ctx context.Context, token string) (parsed *jwt.Token, claims jwt.MapClaims, found time.Time, err error) {
	// The claims are a map because encoding/json matches the fields of a struct in upper and lower case:
	// "SUB" would pass as "sub".
	claims = jwt.MapClaims{}
	var noKey error
	parsed, err = j.parser.ParseWithClaims(token, claims, func(t *jwt.Token) (keys any, _ error) {
		found = time.Now()
		keys, noKey = j.verificationKeys(ctx, t)
		return keys, noKey
	})
	if noKey != nil { // without the library's words about its own functions
		err = noKey
	}
	return parsed, claims, found, err
}

// lacksKey reports whether err says that no key verifies the token. A newer key set may have such a key.
func lacksKey(err error) bool {
	if e, ok := errors.AsType[*tokenError](err); ok {
		return e.refusal == refusedAlgorithm // no key of this id is for the token's algorithm
	}
	return errors.Is(err, jwt.ErrTokenSignatureInvalid)
}

// checkJSON refuses a token whose header or claims two readers may understand differently (RFC 8725, section 2.4). Of
// two members of one name, encoding/json takes the last. It replaces text that is not UTF-8, and half of a surrogate
// pair, by one character, so that different users would have one name. The library ignores text after the claims.
func checkJSON(token string) error {
	for _, part := range strings.SplitN(token, ".", 3)[:2] {
		text := base64.NewDecoder(base64.RawURLEncoding, strings.NewReader(part))
		d := jsontext.NewDecoder(text)
		_, err := d.ReadValue()
		_, end := d.ReadToken()
		if err != nil || !errors.Is(end, io.EOF) {
			return refusedMalformed.with("the token's JSON is ambiguous: it must be one text in UTF-8, and no object may have two members of one name").because(nil)
		}
	}
	return nil
}

// explainToken turns the library's error about a token into an error of this package, which has a reason for the client.
func (j *JWT) explainToken(token string, parsed *jwt.Token, claims jwt.MapClaims, err error) error {
	if _, ok := errors.AsType[*tokenError](err); ok {
		return err
	}
	switch {
	case errors.Is(err, ErrUnavailable):
		return err
	case errors.Is(err, jwt.ErrTokenMalformed):
		if _, ok := errors.AsType[*json.UnmarshalTypeError](err); ok { // its text has the value of a number
			err = errors.New("the header or the claims are not an object, or have a number beyond the range")
		}
		if scheme, _, ok := strings.Cut(token, " "); ok && strings.EqualFold(scheme, "Bearer") {
			return refusedMalformed.with("the token begins with the word Bearer: leave it out, because it belongs to the header Authorization and not to the token").because(nil)
		}
		return refusedMalformed.because(err)
	case errors.Is(err, jwt.ErrTokenInvalidClaims): // the signature is good
		return j.explainClaims(claims, err)
	case parsed.Method == nil, !slices.Contains(j.cfg.Algorithms, parsed.Method.Alg()):
		return refusedAlgorithm.because(fmt.Errorf("%s is not one of %s", algorithmOf(parsed), strings.Join(j.cfg.Algorithms, ", ")))
	}
	return refusedSignature.because(err)
}

// verificationKeys returns the keys that may verify the token. Only the header parameter "kid" selects
// among them, by comparison. "jwk", "jku", "x5c" and "x5u" are ignored: with them a token would bring its
// own key.
func (j *JWT) verificationKeys(ctx context.Context, t *jwt.Token) (any, error) {
	if _, ok := t.Header["crit"]; ok {
		// RFC 7515, section 4.1.11: a critical extension that the recipient does not understand makes a
		// token invalid. The library does not check it, and Herald understands no extension.
		return nil, refusedMalformed.with("the token's header has critical parameters (crit), which this server does not understand").because(nil)
	}
	kid := ""
	if value, ok := t.Header["kid"]; ok {
		if kid, ok = value.(string); !ok || len(kid) > maxKeyID {
			return nil, refusedMalformed.with(fmt.Sprintf("the token's header parameter kid is not a string of at most %d bytes", maxKeyID)).because(nil)
		}
	}
	keys, err := j.cfg.Keys.findKeys(ctx, kid)
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
		return nil, refusedAlgorithm.because(fmt.Errorf("no key is for %s", algorithmOf(t)))
	}
	return set, nil
}

// algorithmName matches the names of algorithms. Another text in a token's header does not get into the log.
var algorithmName = regexp.MustCompile(`^[A-Za-z0-9+-]{1,20}$`)

// algorithmOf returns the name of a token's algorithm for an error.
func algorithmOf(t *jwt.Token) string {
	if name, _ := t.Header["alg"].(string); algorithmName.MatchString(name) {
		return name
	}
	return "the text in alg"
}
