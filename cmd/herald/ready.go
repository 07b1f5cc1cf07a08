package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"herald/cmd/herald/visible"
)

// readyCommand asks a running server whether it is ready. Images without a shell need it for their health check.
type readyCommand struct {
	adminFlags

	Strict  bool          `env:"-" help:"Ask for /readyz?strict: not ready also while Kafka is unreachable, although the server was ready before. Default: ask for /readyz."`
	Timeout time.Duration `env:"-" default:"5s" placeholder:"DURATION" help:"Time that the server may take to answer. Default: ${default}."`
}

// Help implements kong.HelpProvider.
func (*readyCommand) Help() string {
	return `Example:

    herald ready
    herald ready --admin http://127.0.0.1:8071 --strict
    HEALTHCHECK CMD ["/herald", "ready"]

The command prints the server's answer. The image of deploy/Dockerfile has this health check. It finds the admin listener by HERALD_ADMIN_LISTEN; if the server gets the address by a flag or from the file of --config, set HERALD_ADMIN too.

Exit codes. 0: ready. 1: not ready, or no answer. 2: a flag or variable is wrong.`
}

// Validate implements kong.Validatable.
func (r *readyCommand) Validate() error {
	if r.Timeout <= 0 {
		return fmt.Errorf("--timeout=%v: want more than 0s", r.Timeout)
	}
	return r.check()
}

// maxReadyAnswer is the most bytes of the answer that are read.
const maxReadyAnswer = 4 << 10

// Run implements the command.
func (r *readyCommand) Run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	target := "/readyz"
	if r.Strict {
		target += "?strict"
	}
	res, err := r.request(ctx, http.MethodGet, target)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxReadyAnswer))
	text := visible.Text(strings.TrimSpace(string(body)))
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", target, err)
	case res.StatusCode == http.StatusServiceUnavailable:
		return errors.New("not ready: " + text)
	case res.StatusCode != http.StatusOK || !strings.HasPrefix(text, "ok"):
		return fmt.Errorf("the answer is not one of Herald's admin listener: %s: %.200s", res.Status, text)
	}
	fmt.Println(text)
	return nil
}
