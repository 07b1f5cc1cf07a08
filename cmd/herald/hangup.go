package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// ignoreHangups keeps SIGHUP from ending the server, until the caller calls stop. Operators send it to servers that
// read their settings again, and by default it would cut all streams.
func ignoreHangups(log *slog.Logger) (stop func()) {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	done := make(chan struct{})
	var logger sync.WaitGroup
	logger.Go(func() {
		for {
			select {
			case <-hangups:
				log.Warn("SIGHUP ignored; a restart reads the settings again, and a changed certificate needs no signal")
			case <-done:
				return
			}
		}
	})
	return func() {
		signal.Stop(hangups)
		close(done)
		logger.Wait()
	}
}

// endByHangup returns a context that SIGHUP ends too, for a command that belongs to a terminal: the signal says that
// the terminal has closed. A command started by nohup outlives its terminal.
func endByHangup(ctx context.Context) (context.Context, context.CancelFunc) {
	if signal.Ignored(syscall.SIGHUP) {
		return ctx, func() {}
	}
	return signal.NotifyContext(ctx, syscall.SIGHUP)
}
