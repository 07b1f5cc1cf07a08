package auth

import (
	"errors"
	"fmt"
	"strings"
)

// Refusal is what a client learns about a token that is not accepted. So that it helps nobody to forge a token, it
// contains no key and no value of a claim. Of the configuration it names only the claim that holds the user.
type Refusal struct {
	Reason  string // for programs: it does not change
	Message string // for people: what is wrong, and what to do about it
}

// ReasonNoToken is the reason of a request that has no token at all. The other reasons are in stream/PROTOCOL.md.
const ReasonNoToken = "no-token"

// The refusals. A refusal that concerns the claims comes only after a key has verified the token's signature.
var (
	refusedNoToken    = Refusal{ReasonNoToken, "the request has no token: send the header Authorization: Bearer TOKEN, or the session cookie"}
	refusedNotBearer  = Refusal{ReasonNoToken, "the header Authorization does not begin with the word Bearer: send Authorization: Bearer TOKEN"}
	refusedTooLong    = Refusal{"too-long", fmt.Sprintf("the token is longer than %d bytes: ask the issuer for a token with fewer claims", maxToken)}
	refusedMalformed  = Refusal{"malformed", "the token is not a signed JWT: send all of its three parts, with the dots between them"}
	refusedAlgorithm  = Refusal{"algorithm", "this server has no key for the token's algorithm (alg): sign the token with another algorithm"}
	refusedUnknownKey = Refusal{"unknown-key", "this server does not know the key that the token names (kid): get a token from the issuer that this server trusts"}
	refusedSignature  = Refusal{"signature", "no key of this server verifies the token's signature: get a token from the issuer that this server trusts"}
	refusedIssuer     = Refusal{"issuer", "the token's issuer (iss) is not the issuer that this server trusts: get a token from that issuer"}
	refusedAudience   = Refusal{"audience", "the token is not for this server (aud): ask the issuer for a token with this server's audience"}
	refusedClaim      = Refusal{"claim", "a claim of the token is missing or malformed"} // see wrongClaim
	refusedExpired    = Refusal{"expired", "the token has expired: get a new token"}
	refusedEarly      = Refusal{"not-yet-valid", "the token is not valid yet (nbf, iat): wait, or compare the clocks of the issuer and of this server"}
	refusedRevoked    = Refusal{"revoked", "the token was revoked: sign in again"}
)

// wrongClaim returns the refusal of a token with a claim that is not as Herald requires it. wrong describes the fault,
// without the claim's value.
func wrongClaim(name, wrong string) error {
	r := refusedClaim
	r.Message = "the claim " + name + " " + wrong
	return r.because(nil)
}

// with returns the refusal with another message.
func (r Refusal) with(message string) Refusal { return Refusal{r.Reason, message} }

// because returns an [ErrInvalidToken] with the refusal. The cause is for the log; nil: there is nothing more to
// say.
func (r Refusal) because(cause error) error { return &tokenError{r, cause} }

// tokenError is an [ErrInvalidToken] that knows its reason.
type tokenError struct {
	refusal Refusal
	cause   error
}

func (e *tokenError) Error() string {
	text := ErrInvalidToken.Error() + ": " + e.refusal.Reason
	if e.cause != nil {
		return text + ": " + e.cause.Error()
	}
	return text + ": " + e.refusal.Message
}

func (e *tokenError) Unwrap() []error {
	if e.cause == nil {
		return []error{ErrInvalidToken}
	}
	return []error{ErrInvalidToken, e.cause}
}

// Explain returns the refusal that the client gets for err, which wraps [ErrNoToken], [ErrInvalidToken], [ErrExpired],
// [ErrNotYetValid] or [ErrRevoked].
func Explain(err error) Refusal {
	if e, ok := errors.AsType[*tokenError](err); ok {
		return e.refusal
	}
	switch {
	case errors.Is(err, ErrNotBearer):
		return refusedNotBearer
	case errors.Is(err, ErrNoToken):
		return refusedNoToken
	case errors.Is(err, ErrExpired):
		return refusedExpired
	case errors.Is(err, ErrNotYetValid):
		return refusedEarly
	case errors.Is(err, ErrRevoked):
		return refusedRevoked
	default:
		return refusedSignature
	}
}

// The error codes of a challenge (RFC 6750, section 3.1).
const (
	ChallengeInvalidRequest = "invalid_request"    // with status 400
	ChallengeInvalidToken   = "invalid_token"      // with status 401
	ChallengeScope          = "insufficient_scope" // with status 403
)

// Challenge returns the value of the header WWW-Authenticate (RFC 6750, section 3) with an error code and its
// description.
func Challenge(code, description string) string {
	return fmt.Sprintf(`Bearer error="%s", error_description="%s"`, code, strings.Map(describable, description))
}

// Challenge returns the header of status 401, see the function [Challenge]. For a request without a token the header has no error code, because
// the client made no mistake. It then has a realm, because a challenge needs at least one parameter.
func (r Refusal) Challenge() string {
	if r.Reason == ReasonNoToken {
		return `Bearer realm="herald"`
	}
	return Challenge(ChallengeInvalidToken, r.Message)
}

// describable replaces the characters that an error_description must not have (RFC 6750, section 3).
func describable(c rune) rune {
	if c < ' ' || c > '~' || c == '"' || c == '\\' {
		return '\''
	}
	return c
}
