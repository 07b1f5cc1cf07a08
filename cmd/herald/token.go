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
	JWTSecretFile string        `name:"jwt-secret-file" placeholder:"FILE" help:"File with the secret."`
	NewSecret     string        `placeholder:"FILE" env:"-" help:"Write a fresh secret to this file, which must not exist, and print no token."`
	User          string        `placeholder:"NAME" env:"-" help:"Whom the token is for."`
	Publish       bool          `env:"-" help:"Give it the permission publish, to write notifications."`
	TTL           time.Duration `name:"ttl" default:"1h" env:"-" placeholder:"DURATION" help:"How long the token is valid; servers take it 30s longer, as clocks differ. Default: ${default}."`
}

// Help implements kong.HelpProvider.
func (*tokenCommand) Help() string {
	return `Example:

    herald token --new-secret secret
    herald token --jwt-secret-file secret --user alice --ttl 8h > alice.token`
}

// Validate implements kong's interface of the same form.
func (t *tokenCommand) Validate(ctx *kong.Context) error {
	if t.NewSecret != "" {
		for _, p := range ctx.Path {
			if p.Flag != nil && p.Flag.Name != "new-secret" {
				return fmt.Errorf("--new-secret only makes a secret: leave out --%s", p.Flag.Name)
			}
		}
		return nil
	}
	if t.JWTSecretFile == "" || t.User == "" {
		return errors.New("a token needs --jwt-secret-file and --user; --new-secret FILE makes a secret")
	}
	if t.TTL <= 0 {
		return fmt.Errorf("--ttl=%v: want more than 0", t.TTL)
	}
	if err := auth.CheckUser(t.User); err != nil {
		return fmt.Errorf("--user: %w", err)
	}
	return nil
}

// Run implements the command.
func (t *tokenCommand) Run() error {
	if t.NewSecret != "" {
		return auth.WriteSecretFile(t.NewSecret)
	}
	j, err := auth.LoadJWT(t.JWTSecretFile, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err != nil {
		return usageError{fmt.Errorf("--jwt-secret-file: %w", err)}
	}
	token, err := j.Sign(auth.Identity{User: t.User, Expires: time.Now().Add(t.TTL), Publish: t.Publish})
	if err != nil {
		return err
	}
	fmt.Println(token)
	return nil
}
