package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"herald/auth"
	"herald/cmd/herald/server"
)

// authFlags say how the server finds out who sends a request. Exactly one of the first four is given:
// with two sources of keys, a token would be as good as the weaker source, and nobody could say which
// source accepted it.
type authFlags struct {
	JWTSecretFile    string   `name:"jwt-secret-file" placeholder:"FILE" help:"File with the secret (32 bytes or more) of HS256 tokens; HS384 needs 48 bytes, HS512 needs 64." group:"Authentication (one of them)"`
	JWTPublicKeyFile []string `name:"jwt-public-key-file" placeholder:"FILE" help:"PEM files of public keys or certificates that verify tokens: RSA, ECDSA or Ed25519." group:"Authentication (one of them)"`
	JWKSURL          string   `name:"jwks-url" placeholder:"URL" help:"URL of the issuer's JSON Web Key Set. The server keeps the keys while the URL does not answer." group:"Authentication (one of them)"`
	InsecureNoAuth   bool     `help:"No authentication: the query parameter user names the user. For closed networks only." group:"Authentication (one of them)"`

	JWKSCAFile    string        `name:"jwks-ca-file" placeholder:"FILE" help:"PEM file of the authorities that sign the certificate of the key set's server. Default: the system's authorities." group:"Tokens"`
	JWKSRefresh   time.Duration `name:"jwks-refresh" default:"10m" placeholder:"DURATION" help:"Time between fetches of the key set. A key that the issuer has removed stays valid until the next fetch. A token with a new key causes a fetch at once. Default: ${default}." group:"Tokens"`
	JWTAlgorithms []string      `name:"jwt-algorithms" placeholder:"NAME" help:"Allowed algorithms of tokens. Default: every algorithm that fits the keys." group:"Tokens"`
	JWTIssuer     string        `name:"jwt-issuer" placeholder:"TEXT" help:"Required value of the claim iss. Default: any." group:"Tokens"`
	JWTAudience   []string      `name:"jwt-audience" placeholder:"TEXT" help:"Values of the claim aud; a token must have one of them. Default: any, so tokens that the issuer made for other services are accepted too." group:"Tokens"`
	JWTUserClaim  string        `name:"jwt-user-claim" default:"${default_jwt_user_claim}" placeholder:"NAME" help:"Claim that holds the user. Default: ${default}." group:"Tokens"`

	RevocationTopic string `placeholder:"NAME" help:"Compacted topic of revoked tokens, see herald revoke. Default: no token is revoked before it expires." group:"Tokens"`

	TokenQueryParameter   string   `placeholder:"NAME" help:"Query parameter that may hold a token too. URLs are kept in histories and logs: prefer the session cookie. Default: none." group:"Browsers"`
	SessionSameSite       string   `default:"strict" enum:"strict,lax" placeholder:"VALUE" help:"SameSite of the session cookie: strict or lax. Default: ${default}." group:"Browsers"`
	InsecureSessionCookie bool     `help:"Leave Secure out of the session cookie, for browsers that require it on plain HTTP. For development: only with --listen on loopback." group:"Browsers"`
	AllowOrigin           []string `placeholder:"ORIGIN" help:"Origins, such as https://app.example, whose pages may use this server, also with the session cookie." group:"Browsers"`
	Demo                  bool     `help:"Serve a demo page at /. The page signs in with a token and shows the stream." group:"Browsers"`
}

// keyFlags are the flags that name a source of keys.
const keyFlags = "--jwt-secret-file, --jwt-public-key-file, --jwks-url"

// sources returns the given flags that decide how requests are authenticated.
func (a *authFlags) sources() []string {
	var given []string
	for _, s := range []struct {
		flag  string
		given bool
	}{
		{"--jwt-secret-file", a.JWTSecretFile != ""},
		{"--jwt-public-key-file", len(a.JWTPublicKeyFile) > 0},
		{"--jwks-url", a.JWKSURL != ""},
		{"--insecure-no-auth", a.InsecureNoAuth},
	} {
		if s.given {
			given = append(given, s.flag)
		}
	}
	return given
}

// check returns an error for flags that contradict each other. The command checks that one of the
// sources is given; [server.Config.Validate] checks the values.
func (a *authFlags) check() error {
	given := a.sources()
	switch {
	case len(given) > 1:
		return fmt.Errorf("%s exclude each other", strings.Join(given, " and "))
	case a.InsecureNoAuth && (a.JWTIssuer != "" || a.JWTAudience != nil || a.JWTAlgorithms != nil || a.TokenQueryParameter != "" || a.RevocationTopic != ""):
		return errors.New("--jwt-issuer, --jwt-audience, --jwt-algorithms, --revocation-topic and --token-query-parameter have no effect with --insecure-no-auth")
	case a.JWKSURL == "" && a.JWKSCAFile != "":
		return errors.New("--jwks-ca-file needs --jwks-url")
	case a.JWKSRefresh < time.Minute || a.JWKSRefresh > 24*time.Hour:
		return fmt.Errorf("--jwks-refresh=%v: want 1m0s to 24h0m0s", a.JWKSRefresh)
	}
	return nil
}

// apply sets the fields of cfg, except Keys.
func (a *authFlags) apply(cfg *server.Config) {
	cfg.InsecureNoAuth = a.InsecureNoAuth
	cfg.JWTAlgorithms, cfg.JWTIssuer, cfg.JWTAudience, cfg.JWTUserClaim = a.JWTAlgorithms, a.JWTIssuer, a.JWTAudience, a.JWTUserClaim
	cfg.RevocationTopic, cfg.TokenQueryParameter = a.RevocationTopic, a.TokenQueryParameter
	cfg.SessionSameSite, cfg.InsecureSessionCookie = http.SameSiteStrictMode, a.InsecureSessionCookie
	if a.SessionSameSite == "lax" {
		cfg.SessionSameSite = http.SameSiteLaxMode
	}
	cfg.AllowOrigin, cfg.Demo = a.AllowOrigin, a.Demo
}

// keys reads the keys from the one source that is given. It returns nil with --insecure-no-auth.
func (a *authFlags) keys(log *slog.Logger) (auth.Keys, error) {
	switch {
	case a.InsecureNoAuth:
		return nil, nil //nolint:nilnil // there are no tokens to verify
	case a.JWTSecretFile != "":
		secret, err := auth.LoadSecretFile(a.JWTSecretFile, log)
		if err != nil {
			return nil, fmt.Errorf("--jwt-secret-file: %w", err)
		}
		return auth.Secret(secret)
	case len(a.JWTPublicKeyFile) > 0:
		keys, err := auth.PublicKeys(a.JWTPublicKeyFile...)
		if err != nil {
			return nil, fmt.Errorf("--jwt-public-key-file: %w", err)
		}
		return keys, nil
	}
	cfg := auth.JWKSConfig{URL: a.JWKSURL, Refresh: a.JWKSRefresh, Logger: log}
	if a.JWKSCAFile != "" {
		var err error
		if cfg.RootCAs, err = authorities("jwks-ca-file", a.JWKSCAFile); err != nil {
			return nil, err
		}
	}
	keys, err := auth.NewJWKS(cfg)
	if err != nil {
		return nil, fmt.Errorf("--jwks-url: %w", err)
	}
	return keys, nil
}
