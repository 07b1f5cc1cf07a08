package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"herald/auth"
	"herald/auth/textfile"
	"herald/cmd/herald/listener"
	"herald/cmd/herald/server"
)

// authFlags say how the server finds out who sends a request. Exactly one of the first four is given:
// with two sources of keys, a token would be as good as the weaker source, and nobody could say which
// source accepted it.
type authFlags struct {
	JWTSecretFile    []string `name:"jwt-secret-file" placeholder:"FILE" help:"Files with the secrets that sign tokens, each one line of text: 32 bytes or more for HS256, 48 for HS384, 64 for HS512. A token is good if one of the secrets has signed it, so that a secret can be replaced without a refused token." group:"Authentication (one of them)"`
	JWTPublicKeyFile []string `name:"jwt-public-key-file" placeholder:"FILE" help:"PEM files of public keys or certificates that verify tokens: RSA, ECDSA or Ed25519." group:"Authentication (one of them)"`
	JWKSURL          string   `name:"jwks-url" placeholder:"URL" help:"URL of the issuer's JSON Web Key Set. The server keeps the keys that it has while the URL does not answer, and is not ready until it has fetched them once." group:"Authentication (one of them)"`
	InsecureNoAuth   bool     `help:"Authenticate nobody: the query parameter user names the user. For closed networks only. Default: off." group:"Authentication (one of them)"`

	JWKSCAFile       string        `name:"jwks-ca-file" placeholder:"FILE" help:"PEM file of the authorities that sign the certificate of the key set's server. Default: the system's authorities." group:"Tokens"`
	InsecureJWKSHTTP bool          `name:"insecure-jwks-http" help:"Allow --jwks-url to begin with http:// and name another machine. An attacker who can change the answer can sign tokens, so this is for networks that you trust, such as the network of a cluster. Default: https only, except on this machine." group:"Tokens"`
	JWKSRefresh      time.Duration `name:"jwks-refresh" default:"10m" placeholder:"DURATION" help:"Time between fetches of the key set. A key that the issuer has removed stays valid until the next fetch. A token that no key verifies causes a fetch at once, at most one in 10s. Default: ${default}." group:"Tokens"`
	JWTAlgorithms    []string      `name:"jwt-algorithms" placeholder:"NAME" help:"Allowed algorithms of tokens, such as RS256. EdDSA and Ed25519 are two names of one algorithm. Default: every algorithm that fits the keys." group:"Tokens"`
	JWTIssuer        string        `name:"jwt-issuer" placeholder:"TEXT" help:"Required value of the claim iss. Default: any." group:"Tokens"`
	JWTAudience      []string      `name:"jwt-audience" placeholder:"TEXT" help:"Values of the claim aud; a token must have one of them. Default: any, so tokens that the issuer made for other services are accepted too." group:"Tokens"`
	JWTUserClaim     string        `name:"jwt-user-claim" default:"${default_jwt_user_claim}" placeholder:"NAME" help:"Claim that holds the user, a string or an integer. Default: ${default}." group:"Tokens"`

	RevocationTopic string `placeholder:"NAME" help:"Compacted topic of revoked tokens, see herald revoke. Default: no token is revoked before it expires." group:"Tokens"`

	TokenQueryParameter   string   `placeholder:"NAME" help:"Name of a query parameter in which requests may carry a token. Histories and logs keep URLs: prefer the session cookie. Default: none." group:"Browsers"`
	SessionSameSite       string   `default:"strict" enum:"strict,lax" placeholder:"VALUE" help:"Attribute SameSite of the session cookie: strict or lax. With strict, browsers leave the cookie out when a link on another site opens the page. Default: ${default}." group:"Browsers"`
	InsecureSessionCookie bool     `help:"Leave the attribute Secure out of the session cookie, so that every browser sends it over plain HTTP. For development: only with --listen on loopback. Default: off." group:"Browsers"`
	AllowOrigin           []string `placeholder:"ORIGIN" help:"Origins whose pages may use this server, also with the session cookie, as browsers write them: https://app.example, capacitor://localhost. In https://*.app.example, the wildcard stands for one whole label. Default: only the server's own origin." group:"Browsers"`
	AllowHeader           []string `placeholder:"NAME" help:"Request headers that pages of --allow-origin may send, such as X-Request-ID, besides the headers that the server reads and the headers of tracing (traceparent, tracestate, baggage, sentry-trace). Default: no others." group:"Browsers"`
	Demo                  bool     `help:"Serve a demo page at /, which signs in with a token and shows the stream. Needs --enable-publish. Default: off." group:"Browsers"`
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
		{"--jwt-secret-file", len(a.JWTSecretFile) > 0},
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
	case a.JWKSURL == "" && a.InsecureJWKSHTTP:
		return errors.New("--insecure-jwks-http needs --jwks-url")
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
	cfg.AllowOrigin, cfg.AllowHeader, cfg.Demo = a.AllowOrigin, a.AllowHeader, a.Demo
}

// keys reads the keys from the one source that is given. It returns nil with --insecure-no-auth.
func (a *authFlags) keys(log *slog.Logger) (auth.Keys, error) {
	switch {
	case a.InsecureNoAuth:
		return nil, nil //nolint:nilnil // the server verifies no token
	case len(a.JWTSecretFile) > 0:
		var secrets [][]byte
		for _, file := range a.JWTSecretFile {
			secret, err := auth.LoadSecretFile(file, log)
			if err != nil {
				return nil, fmt.Errorf("--jwt-secret-file: %w", err)
			}
			secrets = append(secrets, secret)
		}
		return auth.Secret(secrets...)
	case len(a.JWTPublicKeyFile) > 0:
		keys, err := auth.PublicKeys(a.JWTPublicKeyFile...)
		if err != nil {
			return nil, fmt.Errorf("--jwt-public-key-file: %w", err)
		}
		return keys, nil
	}
	cfg := auth.JWKSConfig{URL: a.JWKSURL, AllowHTTP: a.InsecureJWKSHTTP, Refresh: a.JWKSRefresh, Algorithms: a.JWTAlgorithms, Logger: log}
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
	if a.InsecureJWKSHTTP {
		log.Warn("THE KEY SET IS FETCHED WITHOUT TLS: everybody who can change the answer can sign tokens", "url", a.JWKSURL)
	}
	return keys, nil
}

// tlsFlags say how the public listener is secured.
type tlsFlags struct {
	TLSCertFile string `name:"tls-cert-file" placeholder:"FILE" help:"PEM file of the public listener's certificate and the certificates between it and its authority. The server reads the file again when it changes. Default: no TLS." group:"Listeners"`
	TLSKeyFile  string `name:"tls-key-file" placeholder:"FILE" help:"PEM file of the key of --tls-cert-file. Default: none." group:"Listeners"`
}

func (t *tlsFlags) check() error {
	if (t.TLSCertFile == "") != (t.TLSKeyFile == "") {
		return errors.New("--tls-cert-file and --tls-key-file go together")
	}
	return nil
}

// certificate returns nil if the flags ask for no TLS. The error is a [usageError].
func (t *tlsFlags) certificate(log *slog.Logger) (*listener.Certificate, error) {
	if t.TLSCertFile == "" || t.TLSKeyFile == "" { // check refuses one without the other
		return nil, nil //nolint:nilnil // no TLS
	}
	c, err := listener.LoadCertificate(t.TLSCertFile, t.TLSKeyFile, log)
	if err != nil {
		return nil, usageError{fmt.Errorf("--tls-cert-file and --tls-key-file: %w", err)}
	}
	return c, nil
}

// authorities reads the certificates of authorities from the file that the flag names.
func authorities(flag, file string) (*x509.CertPool, error) {
	text, err := textfile.Read(file, textfile.MaxPEM)
	if err != nil {
		return nil, fmt.Errorf("--%s: %w", flag, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		found := ""
		if what := auth.DescribeContents(text); what != "" {
			found = ", it is " + what
		}
		return nil, fmt.Errorf("--%s: %s has no certificate in PEM that can be read%s", flag, file, found)
	}
	return pool, nil
}
