package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"herald/auth"
)

type tokenCommand struct {
	JWTSecretFile string        `name:"jwt-secret-file" placeholder:"FILE" help:"File with the secret."`
	NewSecret     string        `placeholder:"FILE" help:"Write a fresh secret to this file, which must not exist, and print no token."`
	User          string        `placeholder:"NAME" help:"Whom the token is for."`
	Publish       bool          `help:"Allow publishing."`
	TTL           time.Duration `name:"ttl" default:"1h" placeholder:"DURATION" help:"How long the token is valid. Default: ${default}."`
}

// Validate implements kong.Validatable.
func (t *tokenCommand) Validate() error {
	if t.NewSecret == "" && (t.JWTSecretFile == "" || t.User == "") {
		return errors.New("a token needs --jwt-secret-file and --user; --new-secret FILE makes a secret")
	}
	if t.TTL <= 0 {
		return fmt.Errorf("--ttl=%v: want more than 0", t.TTL)
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
		return fmt.Errorf("--jwt-secret-file: %w", err)
	}
	token, err := j.Sign(auth.Identity{User: t.User, Expires: time.Now().Add(t.TTL), Publish: t.Publish})
	if err != nil {
		return err
	}
	fmt.Println(token)
	return nil
}
