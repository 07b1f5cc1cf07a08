package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"herald/auth"
	"herald/cmd/herald/listener"
)

// authFlags say who may ask. Exactly one of the four sources of keys is given: with two, a token
// would be as good as the weaker of them, and nobody could tell which one took it.
type authFlags struct {
	JWTSecretFile    string   `name:"jwt-secret-file" placeholder:"FILE" help:"File with the secret (32 bytes or more) of HS256 tokens; 48 bytes are enough for HS384 and 64 for HS512." group:"Authentication (one of them)"`
	JWTPublicKeyFile []string `name:"jwt-public-key-file" placeholder:"FILE" help:"PEM files of public keys or certificates that tokens are signed with: RSA, ECDSA or Ed25519." group:"Authentication (one of them)"`
	JWKSURL          string   `name:"jwks-url" placeholder:"URL" help:"Address of the issuer's JSON Web Key Set. The keys are kept while it is away." group:"Authentication (one of them)"`
	InsecureNoAuth   bool     `help:"No authentication: ?user= names the user. For closed networks only." group:"Authentication (one of them)"`

	JWKSCAFile    string        `name:"jwks-ca-file" placeholder:"FILE" help:"PEM file of the authorities that sign the key set's server's certificate. Default: those of the system." group:"Tokens"`
	JWKSRefresh   time.Duration `name:"jwks-refresh" default:"10m" placeholder:"DURATION" help:"Time between fetches of the key set; for so long a key is good that is gone from it. A key that is new is fetched when a token names it. Default: ${default}." group:"Tokens"`
	JWTAlgorithms []string      `name:"jwt-algorithms" placeholder:"NAME" help:"Algorithms that tokens may be signed with. Default: all that fit the keys." group:"Tokens"`
	JWTIssuer     string        `name:"jwt-issuer" placeholder:"TEXT" help:"What the claim iss must be. Default: anything." group:"Tokens"`
	JWTAudience   []string      `name:"jwt-audience" placeholder:"TEXT" help:"The claim aud must have one of these. Default: anything, so tokens that the issuer made for other services are taken too." group:"Tokens"`
	JWTUserClaim  string        `name:"jwt-user-claim" default:"sub" placeholder:"NAME" help:"Claim that holds the user. Default: ${default}." group:"Tokens"`

	RevocationTopic string `placeholder:"NAME" help:"Compacted topic that takes tokens back before they expire, see herald revoke. Default: none." group:"Tokens"`

	TokenQueryParameter   string   `placeholder:"NAME" help:"Take tokens in this query parameter too. URLs are kept in histories and logs: prefer the session cookie. Default: none." group:"Browsers"`
	SessionSameSite       string   `default:"strict" enum:"strict,lax" placeholder:"VALUE" help:"SameSite of the session cookie: strict or lax. Default: ${default}." group:"Browsers"`
	InsecureSessionCookie bool     `help:"Leave Secure out of the session cookie, for browsers that want it on plain HTTP. For development: only with --listen on loopback." group:"Browsers"`
	AllowOrigin           []string `placeholder:"ORIGIN" help:"Origins, such as https://app.example, whose pages may use this server; they may send the session cookie." group:"Browsers"`
	Demo                  bool     `help:"Serve a demo page at /, which signs in by a token and shows the stream." group:"Browsers"`
}

// keyFlags are those that say where keys are.
const keyFlags = "--jwt-secret-file, --jwt-public-key-file, --jwks-url"

// sources returns the flags given that decide about authentication.
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

// queryName is what may be the name of a query parameter for tokens.
var queryName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// check refuses what is wrong in itself. That there is a decision at all is for the command to check.
func (a *authFlags) check(listen string) error {
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
	case a.JWTUserClaim == "":
		return errors.New("--jwt-user-claim is empty: name the claim that holds the user")
	case a.TokenQueryParameter != "" && !queryName.MatchString(a.TokenQueryParameter):
		return fmt.Errorf("--token-query-parameter %q: want 1 to 64 characters of A-Z a-z 0-9 _ -", a.TokenQueryParameter)
	case slices.Contains([]string{"user", "type", "types", "since", "lastEventId"}, a.TokenQueryParameter):
		return fmt.Errorf("--token-query-parameter %s: this one has a meaning already", a.TokenQueryParameter)
	case a.InsecureSessionCookie && !listener.LoopbackOnly(listen):
		return fmt.Errorf("--insecure-session-cookie with --listen %s: anybody on the way could read the cookie; listen on loopback, such as 127.0.0.1:8080, or leave it out", listen)
	}
	if _, err := newOrigins(a.AllowOrigin); err != nil {
		return fmt.Errorf("--allow-origin %w", err)
	}
	return nil
}

// access is who may ask and how that is found out.
type access struct {
	Auth    auth.Authenticator
	JWT     *auth.JWT  // nil: nobody is authenticated
	JWKS    *auth.JWKS // nil: the keys do not change
	Cookie  sessionCookie
	Origins *origins // nil: the server's own only

	RevocationTopic string
	Revocations     *auth.Revocations // nil: no topic
}

// access reads the files of keys. The error is a [usageError].
func (a *authFlags) access(listen string, log *slog.Logger) (access, error) {
	var result access
	var err error
	if result.Origins, err = newOrigins(a.AllowOrigin); err != nil {
		return access{}, usageError{fmt.Errorf("--allow-origin %w", err)}
	}
	if a.InsecureNoAuth {
		if !listener.LoopbackOnly(listen) {
			log.Warn("NOBODY IS AUTHENTICATED: whoever reaches this address reads everybody's notifications", "listen", listen, "flag", "--insecure-no-auth")
		}
		result.Auth = auth.Insecure{}
		return result, nil
	}
	result.Cookie = sessionCookie{sameSite: http.SameSiteStrictMode, insecure: a.InsecureSessionCookie}
	if a.SessionSameSite == "lax" {
		result.Cookie.sameSite = http.SameSiteLaxMode
	}
	cfg := auth.JWTConfig{
		Algorithms: a.JWTAlgorithms, Issuer: a.JWTIssuer, Audiences: a.JWTAudience, UserClaim: a.JWTUserClaim, Leeway: auth.DefaultLeeway,
		Sources: auth.Sources{Cookie: result.Cookie.name(), Query: a.TokenQueryParameter, SameOrigin: result.Origins.checkAll},
	}
	if result.RevocationTopic = a.RevocationTopic; a.RevocationTopic != "" {
		result.Revocations = auth.NewRevocations(auth.DefaultLeeway)
		cfg.Revocations = result.Revocations
	}
	if cfg.Keys, err = a.keys(log); err != nil {
		return access{}, usageError{err}
	}
	result.JWKS, _ = cfg.Keys.(*auth.JWKS)
	if result.JWT, err = auth.NewJWT(cfg); err != nil {
		return access{}, usageError{fmt.Errorf("--jwt-algorithms: %w", err)}
	}
	result.Auth = result.JWT
	return result, nil
}

// keys are those of the one source that is given.
func (a *authFlags) keys(log *slog.Logger) (auth.Keys, error) {
	switch {
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
	if a.JWTAudience == nil {
		log.Warn("tokens that the issuer made for other services are taken too: name this one's by --jwt-audience")
	}
	return keys, nil
}
