package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/alecthomas/kong"

	"herald/auth"
)

type tokenCommand struct {
	JWTSecretFile string `name:"jwt-secret-file" placeholder:"FILE" help:"File with the secret, to sign with HS256." group:"Key (one of them)"`
	JWTKeyFile    string `name:"jwt-key-file" placeholder:"FILE" help:"PEM file with a private key: RSA signs with RS256, ECDSA with ES256, ES384 or ES512 by its curve, Ed25519 with EdDSA." group:"Key (one of them)"`

	NewSecret string `placeholder:"FILE" env:"-" help:"Write a fresh secret to this file, which must not exist, and print no token." group:"Instead of a token"`
	NewKey    string `placeholder:"FILE" env:"-" help:"Write a fresh ECDSA private key to this file and its public key to FILE.pub, neither of which must exist, and print no token." group:"Instead of a token"`
	KeySet    bool   `env:"-" help:"Print the public key of --jwt-key-file as a JSON Web Key Set." group:"Instead of a token"`

	User         string        `placeholder:"NAME" env:"-" help:"Whom the token is for." group:"Claims"`
	TTL          time.Duration `name:"ttl" default:"1h" env:"-" placeholder:"DURATION" help:"How long the token is valid; servers take it 30s longer, as clocks differ. Default: ${default}." group:"Claims"`
	ID           string        `name:"id" placeholder:"TEXT" env:"-" help:"The token's id, its claim jti." group:"Claims"`
	Publish      bool          `env:"-" help:"Let it write notifications." group:"Claims"`
	Types        []string      `placeholder:"TYPE" env:"-" help:"Let it see events of these types only." group:"Claims"`
	Topics       []string      `placeholder:"TOPIC" env:"-" help:"Let it see these broadcast topics only." group:"Claims"`
	JWTIssuer    string        `name:"jwt-issuer" placeholder:"TEXT" help:"The claim iss." group:"Claims"`
	JWTAudience  []string      `name:"jwt-audience" placeholder:"TEXT" help:"The claim aud." group:"Claims"`
	JWTUserClaim string        `name:"jwt-user-claim" default:"sub" placeholder:"NAME" help:"Claim that holds the user. Default: ${default}." group:"Claims"`
}

// Help implements kong.HelpProvider.
func (*tokenCommand) Help() string {
	return `Example:

    herald token --new-secret secret
    herald token --jwt-secret-file secret --user alice --ttl 8h > alice.token

or, with a key of which the server has the public part only:

    herald token --new-key key.pem
    herald serve --jwt-public-key-file key.pem.pub …
    herald token --jwt-key-file key.pem --user alice > alice.token`
}

// alone are the flags that print or write something else than a token, with those that they need.
var alone = map[string][]string{"new-secret": nil, "new-key": nil, "key-set": {"jwt-key-file"}}

// Validate implements kong's interface of the same form.
func (t *tokenCommand) Validate(ctx *kong.Context) error {
	given := make(map[string]bool)
	for _, p := range ctx.Path {
		if p.Flag != nil {
			given[p.Flag.Name] = true
		}
	}
	for name, needs := range alone {
		if !given[name] {
			continue
		}
		delete(given, name)
		for _, other := range needs {
			delete(given, other)
		}
		for other := range given {
			return fmt.Errorf("--%s prints no token: leave out --%s", name, other)
		}
		if name == "key-set" && t.JWTKeyFile == "" {
			return errors.New("--key-set needs --jwt-key-file")
		}
		return nil
	}
	switch {
	case t.JWTSecretFile == "" && t.JWTKeyFile == "", t.User == "":
		return errors.New("a token needs --user, and --jwt-secret-file or --jwt-key-file; --new-secret FILE makes a secret, --new-key FILE a key")
	case t.JWTSecretFile != "" && t.JWTKeyFile != "":
		return errors.New("--jwt-secret-file and --jwt-key-file exclude each other")
	case t.TTL <= 0:
		return fmt.Errorf("--ttl=%v: want more than 0", t.TTL)
	}
	if err := auth.CheckUser(t.User); err != nil {
		return fmt.Errorf("--user: %w", err)
	}
	return nil
}

// Run implements the command.
func (t *tokenCommand) Run() error {
	switch {
	case t.NewSecret != "":
		return auth.WriteSecretFile(t.NewSecret)
	case t.NewKey != "":
		return auth.WriteKeyFiles(t.NewKey)
	}
	signer, err := t.signer()
	if err != nil {
		return usageError{err}
	}
	if t.KeySet {
		set, err := signer.KeySet()
		if err != nil {
			return err
		}
		fmt.Println(string(set))
		return nil
	}
	token, err := signer.Sign(auth.Identity{
		User: t.User, ID: t.ID, Expires: time.Now().Add(t.TTL), Publish: t.Publish, Types: t.Types, Topics: t.Topics,
	})
	if err != nil {
		return err
	}
	fmt.Println(token)
	return nil
}

// signer has the key of the file that is given.
func (t *tokenCommand) signer() (*auth.Signer, error) {
	var signer *auth.Signer
	if t.JWTKeyFile != "" {
		var err error
		if signer, err = auth.LoadSigner(t.JWTKeyFile); err != nil {
			return nil, fmt.Errorf("--jwt-key-file: %w", err)
		}
	} else {
		var err error
		if signer, err = loadSecretSigner(t.JWTSecretFile); err != nil {
			return nil, err
		}
	}
	signer.Issuer, signer.Audience, signer.UserClaim = t.JWTIssuer, t.JWTAudience, t.JWTUserClaim
	return signer, nil
}

// loadSecretSigner reads the file of --jwt-secret-file.
func loadSecretSigner(path string) (*auth.Signer, error) {
	secret, err := auth.LoadSecretFile(path, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err != nil {
		return nil, fmt.Errorf("--jwt-secret-file: %w", err)
	}
	return auth.NewSecretSigner(secret)
}
