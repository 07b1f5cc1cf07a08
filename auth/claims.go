package auth

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// The claims that are read. All but the first are registered (RFC 7519, section 4.1) or ours.
const (
	claimUser  = "sub" // by default
	claimID    = "jti"
	claimGrant = "herald" // an object of:

	grantTypes   = "types"
	grantTopics  = "topics"
	grantPublish = "publish"

	maxGrants = 1000      // entries of a list
	maxGrant  = 256       // bytes of an entry
	maxID     = 256       // bytes of a token's id
	maxTime   = 1<<33 - 1 // seconds of Unix time, the year 2242: what is later overflows somewhere
)

// identity reads the claims of a token whose signature and times are good.
func (j *JWT) identity(claims jwt.MapClaims) (Identity, error) {
	var id Identity
	var ok bool
	if id.User, ok = claims[j.cfg.UserClaim].(string); !ok {
		return Identity{}, fmt.Errorf("%w: the claim %q is missing or not a string", ErrUser, j.cfg.UserClaim)
	}
	if err := CheckUser(id.User); err != nil {
		return Identity{}, err
	}
	err := errors.Join(
		readTime(claims, "exp", &id.Expires),
		readTime(claims, "iat", &id.IssuedAt),
		readID(claims, &id.ID),
		readGrant(claims, &id),
	)
	if err == nil && id.Expires.IsZero() { // the parser has looked at it before: this is to fail closed
		err = jwt.ErrTokenRequiredClaimMissing
	}
	if err != nil {
		return Identity{}, fmt.Errorf("%w: %w", ErrInvalidToken, err)
	}
	id.Expires = id.Expires.Add(j.cfg.Leeway)
	return id, nil
}

// readTime reads a NumericDate, if there is one.
func readTime(claims jwt.MapClaims, name string, to *time.Time) error {
	claim, ok := claims[name]
	if !ok {
		return nil
	}
	seconds, ok := claim.(float64)
	if !ok || !(seconds >= 0 && seconds <= maxTime) { // so that NaN is none
		return fmt.Errorf("the claim %q is no time", name)
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
		return fmt.Errorf("the claim %q is no string of up to %d bytes", claimID, maxID)
	}
	return nil
}

// readGrant is strict: what is misspelt, or of another shape, or of a later version, would else be a
// restriction that is not there.
func readGrant(claims jwt.MapClaims, to *Identity) error {
	claim, ok := claims[claimGrant]
	if !ok {
		return nil
	}
	grant, ok := claim.(map[string]any)
	if !ok {
		return fmt.Errorf("the claim %q is no object", claimGrant)
	}
	for name, value := range grant {
		var good bool
		switch name {
		case grantTypes:
			to.Types, good = stringList(value)
		case grantTopics:
			to.Topics, good = stringList(value)
		case grantPublish:
			to.Publish, good = value.(bool)
		}
		if !good {
			return fmt.Errorf("the claim %q is not understood: it has types and topics, lists of strings, and publish, true or false", claimGrant)
		}
	}
	return nil
}

// stringList returns a list that is not nil.
func stringList(value any) ([]string, bool) {
	list, ok := value.([]any)
	if !ok || len(list) > maxGrants {
		return nil, false
	}
	texts := make([]string, 0, len(list))
	for _, item := range list {
		text, ok := item.(string)
		if !ok || len(text) > maxGrant {
			return nil, false
		}
		texts = append(texts, text)
	}
	return texts, true
}
