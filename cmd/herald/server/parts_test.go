package server

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestAllPartsAreWaitedFor has two of four parts fail. wait returns both errors, after the last part
// has ended.
func TestAllPartsAreWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, stop := newParts(), make(chan struct{})
		late := errors.New("the last commit")
		p.run(func() error { return io.ErrUnexpectedEOF })
		p.run(func() error { <-stop; return http.ErrServerClosed })
		p.run(func() error { <-stop; return nil })
		p.run(func() error { <-stop; time.Sleep(time.Minute); return late })
		<-p.failed
		close(stop)
		if err := p.wait(); !errors.Is(err, late) || !errors.Is(err, io.ErrUnexpectedEOF) || strings.Contains(err.Error(), "closed") {
			t.Errorf("%v, want the first and the last failure, without the HTTP server's end", err)
		}
	})
}
