package server

import (
	"errors"
	"fmt"
	"slices"

	"herald/auth"
	"herald/cmd/herald/listener"
	"herald/consumer"
)

// access holds the parts that find a request's user: the tokens' verifier and the session cookie.
type access struct {
	auth   auth.Authenticator
	jwt    *auth.JWT // nil: nobody is authenticated
	cookie sessionCookie
}

// claimsOf returns the names of the claims that routes name.
func claimsOf(routes []consumer.Route) (names []string) {
	for _, r := range routes {
		if r.Claim != "" && !slices.Contains(names, r.Claim) {
			names = append(names, r.Claim)
		}
	}
	return names
}

// checkWhere returns an error if the conditions in a token's grant are not valid.
func checkWhere(conditions []string) error {
	_, err := consumer.ParseConditions(conditions)
	return err
}

// newAccess returns the parts for the keys of cfg; revoked is nil if no token is revoked. An error names the field of cfg
// that is wrong. newAccess warns of settings that let in more requests than an operator may expect.
func newAccess(cfg *Config, o *origins, revoked *auth.Revocations) (access, error) {
	if cfg.InsecureNoAuth {
		if cfg.Keys != nil {
			return access{}, fmt.Errorf("%s excludes keys", cfg.name("InsecureNoAuth"))
		}
		if !listener.LoopbackOnly(cfg.Listen) {
			cfg.Logger.Warn("NOBODY IS AUTHENTICATED: every client that reaches this address can read every user's notifications", "listen", cfg.Listen, "setting", cfg.name("InsecureNoAuth"))
		}
		return access{auth: auth.Insecure{Claims: claimsOf(cfg.Consumer.Routes)}}, nil
	}
	if cfg.Keys == nil {
		return access{}, errors.New("there are neither keys for tokens nor " + cfg.name("InsecureNoAuth"))
	}
	a := access{cookie: sessionCookie{sameSite: cfg.SessionSameSite, insecure: cfg.InsecureSessionCookie, basePath: cfg.BasePath}}
	tokens := auth.JWTConfig{
		Keys: cfg.Keys, Algorithms: cfg.JWTAlgorithms, Issuer: cfg.JWTIssuer, Audiences: cfg.JWTAudience, UserClaim: cfg.JWTUserClaim, Claims: claimsOf(cfg.Consumer.Routes), Leeway: auth.DefaultLeeway, CheckWhere: checkWhere,
		Revocations: revoked, Sources: auth.Sources{Cookie: a.cookie.name(), Query: cfg.TokenQueryParameter, SameOrigin: o.checkAll},
	}
	if _, isSet := cfg.Keys.(*auth.JWKS); isSet && cfg.JWTAudience == nil {
		cfg.Logger.Warn("tokens that the issuer made for other services are accepted too; name this service's audience", "setting", cfg.name("JWTAudience"))
	}
	var err error
	if a.jwt, err = auth.NewJWT(tokens); err != nil {
		return access{}, fmt.Errorf("%s: %w", cfg.name("JWTAlgorithms"), err)
	}
	a.auth = a.jwt
	return a, nil
}
