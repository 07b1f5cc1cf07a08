package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// hangups returns a channel that gets SIGHUP, which then does not end the process, until the caller calls stop. The
// channel keeps one signal: a reload reads whatever several signals ask for.
func hangups() (signals <-chan os.Signal, stop func()) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGHUP)
	return c, func() { signal.Stop(c) }
}

// endByHangup returns a context that SIGHUP ends too, for a command that belongs to a terminal: the signal says that
// the terminal has closed. A command started by nohup outlives its terminal.
func endByHangup(ctx context.Context) (context.Context, context.CancelFunc) {
	if signal.Ignored(syscall.SIGHUP) {
		return ctx, func() {}
	}
	return signal.NotifyContext(ctx, syscall.SIGHUP)
}
