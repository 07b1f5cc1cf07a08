package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/alecthomas/kong"

	"herald/auth"
	"herald/consumer"
)

// signerFlags say how a command makes tokens.
type signerFlags struct {
	JWTSecretFile string `name:"jwt-secret-file" placeholder:"FILE" help:"File with a secret. Tokens are signed with HS256." group:"Key (one of them)"`
	JWTKeyFile    string `name:"jwt-key-file" placeholder:"FILE" help:"PEM file with a private key. An RSA key signs with RS256, an ECDSA key with ES256, ES384 or ES512 according to its curve, an Ed25519 key with EdDSA, which is also called Ed25519." group:"Key (one of them)"`

	JWTIssuer    string   `name:"jwt-issuer" placeholder:"TEXT" help:"The claim iss, the token's issuer. Default: none." group:"Claims"`
	JWTAudience  []string `name:"jwt-audience" placeholder:"TEXT" help:"The claim aud, the token's audience. Default: none." group:"Claims"`
	JWTUserClaim string   `name:"jwt-user-claim" default:"sub" placeholder:"NAME" help:"Name of the claim that holds the user. Default: ${default}." group:"Claims"`
}

// given says whether one of the keys is given.
func (s *signerFlags) given() bool { return s.JWTSecretFile != "" || s.JWTKeyFile != "" }

func (s *signerFlags) check() error {
	if s.JWTSecretFile != "" && s.JWTKeyFile != "" {
		return errors.New("--jwt-secret-file and --jwt-key-file exclude each other")
	}
	return nil
}

type tokenCommand struct {
	signerFlags

	NewSecret string `placeholder:"FILE" env:"-" help:"Write a new secret to this file, which must not exist, and print no token." group:"Instead of a token"`
	NewKey    string `placeholder:"FILE" env:"-" help:"Write a new ECDSA private key to this file and its public key to FILE.pub, and print no token. Neither file may exist." group:"Instead of a token"`
	KeySet    bool   `env:"-" help:"Print the public key of --jwt-key-file as a JSON Web Key Set, and no token." group:"Instead of a token"`

	User    string        `placeholder:"NAME" env:"-" help:"User that the token names. Required for a token." group:"Claims"`
	TTL     time.Duration `name:"ttl" default:"1h" env:"-" placeholder:"DURATION" help:"How long the token is valid. Servers accept it for another 30s, because clocks differ. Default: ${default}." group:"Claims"`
	ID      string        `name:"id" placeholder:"TEXT" env:"-" help:"Id of the token, its claim jti. Default: none." group:"Claims"`
	Claim   []string      `placeholder:"NAME=VALUE" env:"-" help:"Another claim of the token, such as team=red for topics with claim=team. Repeat the flag, or separate several by commas, also several values of one claim. Default: none." group:"Claims"`
	Publish bool          `env:"-" help:"Allow the token to write notifications. Default: only reading." group:"Claims"`
	Types   []string      `placeholder:"TYPE" env:"-" help:"Allow the token to read only events of these types. Default: all types." group:"Claims"`
	Topics  []string      `placeholder:"TOPIC" env:"-" help:"Allow the token to read only these broadcast topics. Default: all topics." group:"Claims"`
	Where   []string      `placeholder:"header:NAME=VALUE" env:"-" help:"Allow the token to read only records with this header. Repeat the flag, or separate several by commas: conditions on one header are alternatives, and a record must meet the conditions on every header that is named. Default: all records." group:"Claims"`
}

// Help implements kong.HelpProvider.
func (*tokenCommand) Help() string {
	return `Example:

    herald token --new-secret secret
    herald token --jwt-secret-file secret --user alice --ttl 8h > alice.token
    herald token --jwt-secret-file secret --user alice --claim team=red --claim team=blue
    herald token --jwt-secret-file secret --user alice --where header:region=eu

With a key pair, the server needs only the public key:

    herald token --new-key key.pem
    herald serve --jwt-public-key-file key.pem.pub …
    herald token --jwt-key-file key.pem --user alice > alice.token`
}

// exclusiveFlags are the flags that print or write something other than a token. Each excludes all other
// flags, except the flags in its value.
var exclusiveFlags = map[string][]string{"new-secret": nil, "new-key": nil, "key-set": {"jwt-key-file"}}

// Validate implements kong.Validatable. Its form with a context has no name in kong.
func (t *tokenCommand) Validate(ctx *kong.Context) error {
	given := make(map[string]bool)
	for _, p := range ctx.Path {
		if p.Flag != nil {
			given[p.Flag.Name] = true
		}
	}
	for name, needs := range exclusiveFlags {
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
	var m missing
	m.add(t.User != "", "--user (the user of the token, such as alice)")
	m.add(t.given(), "one of --jwt-secret-file and --jwt-key-file (what signs the token; --new-secret FILE makes a secret, --new-key FILE a key)")
	if err := m.err(); err != nil {
		return err
	}
	if err := t.check(); err != nil {
		return err
	}
	if t.TTL <= 0 {
		return fmt.Errorf("--ttl=%v: want more than 0", t.TTL)
	}
	if err := auth.CheckUser(t.User); err != nil {
		return fmt.Errorf("--user: %w", err)
	}
	if _, err := auth.ParseClaims(t.Claim); err != nil {
		return fmt.Errorf("--claim %w", err)
	}
	if _, err := consumer.ParseConditions(t.Where); err != nil {
		return fmt.Errorf("--where: %w", err)
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
	signer, err := t.loadSigner()
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
	claims, err := auth.ParseClaims(t.Claim)
	if err != nil {
		return err
	}
	token, err := signer.Sign(auth.Identity{
		User: t.User, ID: t.ID, Expires: time.Now().Add(t.TTL), Publish: t.Publish, Types: t.Types, Topics: t.Topics, Where: t.Where, Claims: claims,
	})
	if err != nil {
		return err
	}
	fmt.Println(token)
	return nil
}

// loadSigner returns a signer with the key or the secret of the user's file.
func (s *signerFlags) loadSigner() (*auth.Signer, error) {
	var signer *auth.Signer
	if s.JWTKeyFile != "" {
		var err error
		if signer, err = auth.LoadSigner(s.JWTKeyFile); err != nil {
			return nil, fmt.Errorf("--jwt-key-file: %w", err)
		}
	} else {
		var err error
		if signer, err = loadSecretSigner(s.JWTSecretFile); err != nil {
			return nil, err
		}
	}
	signer.Issuer, signer.Audience, signer.UserClaim = s.JWTIssuer, s.JWTAudience, s.JWTUserClaim
	return signer, nil
}

// loadSecretSigner returns a signer with the secret in the file of --jwt-secret-file.
func loadSecretSigner(path string) (*auth.Signer, error) {
	secret, err := auth.LoadSecretFile(path, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err != nil {
		return nil, fmt.Errorf("--jwt-secret-file: %w", err)
	}
	return auth.NewSecretSigner(secret)
}
