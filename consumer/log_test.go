package consumer

import (
	"context"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// said is a slog handler that keeps all lines, from level INFO up, as "LEVEL message key=value …".
type said struct {
	slog.Handler // of the test's output
	mu           sync.Mutex
	lines        []string
}

// hear returns the log of a consumer that configured has made.
func hear(t *testing.T, c *Consumer) *said {
	t.Helper()
	return c.log.Handler().(*said)
}

// Handle implements [slog.Handler].
func (s *said) Handle(ctx context.Context, r slog.Record) error {
	line := r.Level.String() + " " + r.Message
	r.Attrs(func(a slog.Attr) bool {
		line += " " + a.String()
		return true
	})
	s.mu.Lock()
	s.lines = append(s.lines, line)
	s.mu.Unlock()
	return s.Handler.Handle(ctx, r)
}

// all returns the lines logged so far.
func (s *said) all() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.lines)
}

// wait waits for a line that matches the pattern, in which … matches any text.
func (s *said) wait(t *testing.T, pattern string) {
	t.Helper()
	waitFor(t, "the line "+pattern, func() bool { return s.count(pattern) > 0 })
}

// count returns the number of lines that match the pattern.
func (s *said) count(pattern string) int {
	exp := regexp.MustCompile("(?s)^" + strings.ReplaceAll(regexp.QuoteMeta(pattern), "…", ".*") + "$")
	n := 0
	for _, line := range s.all() {
		if exp.MatchString(line) {
			n++
		}
	}
	return n
}

// only checks that each pattern matches one line and that there are no further lines.
func (s *said) only(t *testing.T, patterns ...string) {
	t.Helper()
	for _, pattern := range patterns {
		if n := s.count(pattern); n != 1 {
			t.Errorf("%d lines match %q, want 1", n, pattern)
		}
	}
	if all := s.all(); len(all) != len(patterns) {
		t.Errorf("the log has %d lines, want %d:\n%s", len(all), len(patterns), strings.Join(all, "\n"))
	}
}

// forget removes the lines logged so far.
func (s *said) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = nil
}
