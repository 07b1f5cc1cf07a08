package main

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"herald/cmd/herald/visible"
)

// Levels of findings.
const (
	levelOK      = "ok"
	levelNotice  = "notice"  // leaves the exit code as it is
	levelWarning = "warning" // exit code 1
	levelError   = "error"
)

// finding is a line of herald check.
type finding struct {
	Level string `json:"level"`
	Text  string `json:"text"`
	code  int    // the exit code, if no finding has a higher one
}

// findings collects what herald check has found. Not safe for concurrent use.
type findings struct {
	list   []finding
	muted  bool              // lines of the log become no findings
	locate func(error) error // adds to an error about a setting the line of the configuration file
}

func (f *findings) add(level string, code int, text string) {
	f.list = append(f.list, finding{level, visible.Text(text), code})
}

// ok records that something is as it should be.
func (f *findings) ok(format string, args ...any) { f.add(levelOK, 0, fmt.Sprintf(format, args...)) }

// note records a finding that the exit code does not show, because it depends on things that the program cannot see.
func (f *findings) note(format string, args ...any) {
	f.add(levelNotice, 0, fmt.Sprintf(format, args...))
}

// warn records that the server would start, but is not safe or will not work for long.
func (f *findings) warn(format string, args ...any) {
	f.add(levelWarning, exitFailed, fmt.Sprintf(format, args...))
}

// fail records that the server would start, but not all of it would work.
func (f *findings) fail(format string, args ...any) {
	f.add(levelError, exitFailed, fmt.Sprintf(format, args...))
}

// refuse records an error with which the server would not start.
func (f *findings) refuse(err error) {
	if err != nil {
		f.add(levelError, exitUsage, f.locate(err).Error())
	}
}

// exit returns the command's exit code.
func (f *findings) exit() int {
	code := 0
	for _, one := range f.list {
		code = max(code, one.code)
	}
	return code
}

// logger returns a log whose warnings and errors become findings: the server logs them when it starts.
func (f *findings) logger() *slog.Logger { return slog.New(&findingLog{f}) }

type findingLog struct{ *findings }

// Enabled implements [slog.Handler].
func (*findingLog) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }

// Handle implements [slog.Handler].
func (l *findingLog) Handle(_ context.Context, r slog.Record) error {
	if l.muted {
		return nil
	}
	var facts []string
	r.Attrs(func(a slog.Attr) bool {
		facts = append(facts, a.String())
		return true
	})
	text := r.Message
	if len(facts) > 0 {
		text += " (" + strings.Join(facts, " ") + ")"
	}
	if r.Level >= slog.LevelError {
		l.fail("%s", text)
	} else {
		l.warn("%s", text)
	}
	return nil
}

// WithAttrs implements [slog.Handler]. The attributes name a part of the server, which the messages name too.
func (l *findingLog) WithAttrs([]slog.Attr) slog.Handler { return l }

// WithGroup implements [slog.Handler].
func (l *findingLog) WithGroup(string) slog.Handler { return l }
