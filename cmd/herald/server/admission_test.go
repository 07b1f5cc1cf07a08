package server

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"herald/cmd/herald/listener"
)

// TestFewerStreamsThanAllowed wants a warning if the limit of open files allows fewer streams than MaxStreams.
func TestFewerStreamsThanAllowed(t *testing.T) {
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, nil))
	for _, within := range []int{0, 1} {
		if (&Config{Settings: Settings{MaxStreams: within}}).warnOfFileLimit(logger); log.Len() > 0 {
			t.Errorf("MaxStreams=%d: %s", within, &log)
		}
	}
	over := Config{Settings: Settings{MaxStreams: listener.OpenFiles()}}
	over.warnOfFileLimit(logger)
	if want := fmt.Sprintf("streams=%d", over.admission().Streams); !strings.Contains(log.String(), "level=WARN") || !strings.Contains(log.String(), want) {
		t.Errorf("%q, want a warning with %s", &log, want)
	}
}
