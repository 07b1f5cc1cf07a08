package main

import (
	"errors"
	"net/http"
	"sync"
)

// parts are what a server is made of: they run until they are stopped, and none is left behind.
type parts struct {
	failed chan struct{} // closed when the first ends with an error

	running sync.WaitGroup
	mu      sync.Mutex
	errs    []error
}

func newParts() *parts { return &parts{failed: make(chan struct{})} }

// run starts a part. That an HTTP server is closed is no error.
func (p *parts) run(part func() error) {
	p.running.Go(func() {
		err := part()
		if err == nil || errors.Is(err, http.ErrServerClosed) {
			return
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.errs = append(p.errs, err); len(p.errs) == 1 {
			close(p.failed)
		}
	})
}

// wait returns the errors of all, once all have ended.
func (p *parts) wait() error {
	p.running.Wait()
	return errors.Join(p.errs...)
}
