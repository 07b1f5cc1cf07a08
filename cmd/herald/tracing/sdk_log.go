package tracing

import (
	"log/slog"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/otel"
)

// useLog makes the SDK write to the log, for example about a wrong environment variable. By default, it writes lines of its own
// format to standard error. The SDK has one logger for the whole process.
func useLog(log *slog.Logger) {
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn("tracing failed", "error", err) }))
	otel.SetLogger(logr.New(sdkLog{log}))
}

// sdkLog implements [logr.LogSink]. It leaves out the values of a line, among which are the contents of a variable that is
// wrong: they may be credentials.
type sdkLog struct{ log *slog.Logger }

// warnings is the level at which the SDK logs warnings; higher levels are less important.
const warnings = 1

func (sdkLog) Init(logr.RuntimeInfo) {}

func (sdkLog) Enabled(level int) bool { return level <= warnings }

func (l sdkLog) Info(_ int, message string, _ ...any) {
	l.log.Warn("tracing warned", "warning", message)
}

func (l sdkLog) Error(err error, message string, _ ...any) {
	l.log.Warn("tracing failed", "operation", message, "error", err)
}

func (l sdkLog) WithValues(...any) logr.LogSink { return l }

func (l sdkLog) WithName(string) logr.LogSink { return l }
