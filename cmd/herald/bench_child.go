package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"

	"herald/cmd/herald/bench"
)

// benchChildCommand is the command with which `herald bench` starts this program as a child process.
// The child ends when its standard input ends, so that it never outlives its parent. It ignores
// Ctrl-C, which a terminal sends to both processes: the parent decides when the child ends.
type benchChildCommand struct {
	Args []string `arg:"" passthrough:"" help:"broker, bare, or a command of herald."`
}

// Run implements the command.
func (b *benchChildCommand) Run(ctx context.Context) error {
	signal.Ignore(os.Interrupt)
	if b.Args[0] == "bare" {
		defer context.AfterFunc(ctx, func() { _ = os.Stdin.Close() })()
		return bench.ServeBare(os.Stdin, os.Stdout)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // runs as long as the process
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	if b.Args[0] == "broker" {
		broker, err := (&devCommand{KafkaListen: "127.0.0.1:0"}).broker(ctx)
		if err != nil {
			return err
		}
		defer broker.Close()
		fmt.Println(broker.ListenAddrs()[0])
		<-ctx.Done()
		return nil
	}
	if code := run(ctx, b.Args, os.Stderr); code != 0 {
		return errors.New("the command failed") // run has printed the error
	}
	return nil
}

// childCommand returns the command line that starts this program as a child.
func childCommand(args ...string) ([]string, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("this program's file: %w", err)
	}
	return append([]string{program, "bench-child"}, args...), nil
}
