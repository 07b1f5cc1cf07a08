package server

import (
	"errors"
	"net/http"
	"sync"
)

// parts are the functions of a server that run until the server stops. Unlike an errgroup, which keeps
// the first error only, it returns the errors of all: the consumer's last commit may fail after another
// part has.
type parts struct {
	failed chan struct{} // closed when the first part ends with an error

	running sync.WaitGroup
	mu      sync.Mutex
	errs    []error
}

func newParts() *parts { return &parts{failed: make(chan struct{})} }

// run starts a part. The end of an HTTP server that was shut down does not count as an error.
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

// wait waits until all parts have ended and returns their errors.
func (p *parts) wait() error {
	p.running.Wait()
	return errors.Join(p.errs...)
}
