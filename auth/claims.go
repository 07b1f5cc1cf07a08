package auth

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// The names and limits of the claims that Herald reads. "sub" and "jti" are registered names (RFC 7519,
// section 4.1); "herald" is Herald's own.
const (
	claimUser  = "sub" // the default; see JWTConfig.UserClaim
	claimID    = "jti"
	claimGrant = "herald" // an object with these members:

	grantTypes   = "types"
	grantTopics  = "topics"
	grantWhere   = "where"
	grantPublish = "publish"

	maxValues = 100       // entries of a claim's list
	maxGrants = 1000      // entries of a list
	maxGrant  = 256       // bytes of an entry
	maxID     = 256       // bytes of a token's id
	maxTime   = 1<<33 - 1 // seconds of Unix time, in the year 2242: later times overflow in some formats
)

// readIdentity reads the claims of a token whose signature and times have been verified.
func (j *JWT) readIdentity(claims jwt.MapClaims) (Identity, error) {
	var id Identity
	err := cmp.Or( // the first error is enough for the client
		readUser(claims, j.cfg.UserClaim, &id),
		readTime(claims, "exp", &id.Expires),
		readTime(claims, "iat", &id.IssuedAt),
		readTime(claims, "nbf", new(time.Time)), // the parser accepts a time beyond the range as one in the past
		readID(claims, &id.ID),
		j.readGrant(claims, &id),
		j.readClaims(claims, &id),
	)
	if err == nil && id.Expires.IsZero() { // the parser has checked "exp" already; this check fails closed
		err = errNoExpiry
	}
	if err != nil {
		return Identity{}, err
	}
	id.Expires = id.Expires.Add(j.cfg.Leeway)
	return id, nil
}

// readUser reads the claim that names the user.
func readUser(claims jwt.MapClaims, name string, to *Identity) error {
	claim, ok := claims[name]
	if !ok {
		return wrongClaim(name, "is missing: it must name the user")
	}
	if to.User, ok = nameOf(claim); !ok {
		return wrongClaim(name, "is "+typeName(claim)+": it must name the user by a string or an integer")
	}
	return CheckUser(to.User)
}

// nameOf returns the name in a claim. Many systems number their users and teams, so an integer is the name that is its
// decimal text. Another number is no name, because it has several texts, such as 1.0 and 1.00.
func nameOf(claim any) (name string, ok bool) {
	switch claim := claim.(type) {
	case string:
		return claim, true
	case json.Number:
		return claim.String(), !strings.ContainsAny(claim.String(), ".eE") && claim != "-0"
	}
	return "", false
}

// readClaims reads the claims that the configuration names.
func (j *JWT) readClaims(claims jwt.MapClaims, to *Identity) error {
	for _, name := range j.cfg.Claims {
		list, many := claims[name].([]any)
		if one := claims[name]; one != nil && !many {
			list = []any{one}
		}
		if len(list) > maxValues {
			return wrongClaim(name, fmt.Sprintf("has more than %d values", maxValues))
		}
		values := make([]string, 0, len(list))
		for _, one := range list {
			value, ok := nameOf(one)
			if !ok {
				return wrongClaim(name, fmt.Sprintf("has a value that is %s: it must be a string, an integer, or a list of up to %d of them", typeName(one), maxValues))
			}
			if fault := nameFault(value); fault != "" {
				return wrongClaim(name, "has a value that is "+fault)
			}
			values = append(values, value)
		}
		to.addClaim(name, values)
	}
	return nil
}

// typeName returns what JSON calls a value that is neither a string nor an integer.
func typeName(value any) string {
	switch value.(type) {
	case nil:
		return "null"
	case json.Number:
		return "a number, but not an integer in decimal"
	case bool:
		return "true or false"
	case []any:
		return "an array"
	default:
		return "an object"
	}
}

// errNoExpiry refuses a token that would be valid for ever.
var errNoExpiry = wrongClaim("exp", "is missing: every token must expire")

// explainClaims returns why the library refuses the claims of a token with a good signature. The issuer and the
// audience come first: a token for another service is wrong at any time.
func (j *JWT) explainClaims(claims jwt.MapClaims, err error) error {
	if _, ok := claims["iss"]; !ok && j.cfg.Issuer != "" {
		return refusedIssuer.with("the token's issuer (iss) is missing: ask the issuer for a token with this claim").because(nil)
	}
	if j.cfg.Issuer != "" && claims["iss"] != j.cfg.Issuer {
		return refusedIssuer.because(err)
	}
	if _, ok := claims["aud"]; !ok && j.cfg.Audiences != nil {
		return refusedAudience.with("the token's audience (aud) is missing: ask the issuer for a token with this server's audience").because(nil)
	}
	named, malformed := claims.GetAudience()
	if j.cfg.Audiences != nil && (malformed != nil || !slices.ContainsFunc(named, func(a string) bool { return slices.Contains(j.cfg.Audiences, a) })) {
		return refusedAudience.because(err)
	}
	var at time.Time
	for _, name := range []string{"exp", "nbf", "iat"} {
		if err := readTime(claims, name, &at); err != nil {
			return err
		}
	}
	switch {
	case errors.Is(err, jwt.ErrTokenRequiredClaimMissing):
		return errNoExpiry
	case errors.Is(err, jwt.ErrTokenExpired):
		return ErrExpired
	case errors.Is(err, jwt.ErrTokenNotValidYet), errors.Is(err, jwt.ErrTokenUsedBeforeIssued):
		return ErrNotYetValid
	}
	return refusedClaim.because(err)
}

// readTime reads a claim of the type NumericDate. A missing claim leaves the time unchanged.
func readTime(claims jwt.MapClaims, name string, to *time.Time) error {
	claim, ok := claims[name]
	if !ok {
		return nil
	}
	number, _ := claim.(json.Number)
	seconds, err := number.Float64()
	if err != nil || seconds < 0 || seconds > maxTime {
		return wrongClaim(name, "is not a time in seconds since 1970")
	}
	whole, part := math.Modf(seconds)
	*to = time.Unix(int64(whole), int64(part*1e9))
	return nil
}

func readID(claims jwt.MapClaims, to *string) error {
	claim, ok := claims[claimID]
	if !ok {
		return nil
	}
	if *to, ok = claim.(string); !ok || len(*to) > maxID {
		return wrongClaim(claimID, fmt.Sprintf("is not a string of at most %d bytes", maxID))
	}
	return nil
}

// readGrant reads the claim "herald". It refuses members that it does not know and values of another
// type: to ignore a misspelt restriction, or a restriction of a later version, would lift it.
func (j *JWT) readGrant(claims jwt.MapClaims, to *Identity) error {
	claim, ok := claims[claimGrant]
	if !ok {
		return nil
	}
	grant, ok := claim.(map[string]any)
	if !ok {
		return wrongClaim(claimGrant, "is not an object")
	}
	for name, value := range grant {
		var good bool
		switch name {
		case grantTypes:
			to.Types, good = stringList(value)
		case grantTopics:
			to.Topics, good = stringList(value)
		case grantWhere:
			to.Where, good = stringList(value)
			if !good || j.cfg.CheckWhere == nil || j.cfg.CheckWhere(to.Where) != nil {
				return wrongClaim(claimGrant, "has a malformed member where: it must be a list of up to 20 conditions such as header:region=eu")
			}
		case grantPublish:
			to.Publish, good = value.(bool)
		}
		if !good {
			return wrongClaim(claimGrant, "has an unknown or malformed member: it may have types, topics and where, lists of strings, and publish, true or false")
		}
	}
	return nil
}

// stringList converts the value of a claim to a list, which is never nil if ok is true: an empty list
// allows nothing, but nil allows everything.
func stringList(value any) (texts []string, ok bool) {
	list, ok := value.([]any)
	if !ok || len(list) > maxGrants {
		return nil, false
	}
	texts = make([]string, 0, len(list))
	for _, item := range list {
		text, ok := item.(string)
		if !ok || len(text) > maxGrant {
			return nil, false
		}
		texts = append(texts, text)
	}
	return texts, true
}
