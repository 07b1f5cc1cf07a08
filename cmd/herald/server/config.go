package server

import (
	"log/slog"
	"net/http"
	"time"

	"herald/cmd/herald/listener"
	"herald/consumer"
	"herald/consumer/format"
)

// Config is what a [Server] needs. [DefaultConfig] fills in the defaults; a zero field has the meaning
// that its comment gives, and no default. [Config.Validate] explains the bounds.
type Config struct {
	// Settings can change while the server runs.
	Settings

	// Listen is the address of the public listener: HOST:PORT, unix:PATH, or systemd for the socket that systemd
	// passes. Port 0 takes a free port, see [Server.Addr]. Default: 127.0.0.1:8080.
	Listen string
	// AdminListen is the address of the admin listener, in the same forms. Its routes show operators' figures and need no
	// token, so clients must not reach it. Default: 127.0.0.1:8081.
	AdminListen string
	// AdminPprof serves the profiles of net/http/pprof on the admin listener. A profile costs CPU while it is taken, and
	// shows the command line and the code that runs. Default: false.
	AdminPprof bool
	// BasePath is the path under which the public listener has its routes: with /herald, the stream is at
	// /herald/events. It is empty or begins with a slash and does not end with one. Default: empty.
	BasePath string
	// ProxyProtocol wants a PROXY header at the beginning of each connection of TrustedProxies to the public listener.
	// Connections of others must not have one. Default: false.
	ProxyProtocol bool
	// Certificate makes the public listener speak TLS. Nil: plain HTTP.
	Certificate *listener.Certificate

	// Consumer names the cluster, the group and the routes. The server sets Logger, Registry and
	// ReplayCacheBytes.
	Consumer consumer.Config

	// Schemas is the schema registry of the routes with format=registry. Nil: none.
	Schemas format.Source

	// EventTypeHeader is the record header that holds the event type. Default: event-type.
	EventTypeHeader string
	// RecordHeader names the record headers that clients get if they ask for them with the parameter fields. A header
	// of a broadcast reaches every user. Default: none.
	RecordHeader []string
	// Heartbeat is the time between heartbeats on a quiet stream. Proxies close a stream that is quiet
	// for longer than their own time-out. Shorter ones cost traffic and CPU for each stream. Default: 15 s.
	Heartbeat time.Duration
	// WriteTimeout closes a stream whose client accepts no byte for that long. Default: 10 s.
	WriteTimeout time.Duration
	// ReplayCacheBytes is the memory for records that resuming clients need. Three quarters hold the newest
	// records of all partitions. A quarter holds older records that several clients in turn need.
	// Default: 48 MiB.
	ReplayCacheBytes int

	// EnablePublish serves the two POST routes that write notifications. Default: false.
	EnablePublish bool

	// InsecureNoAuth accepts every request: the query parameter user names the user. For closed networks only.
	InsecureNoAuth bool
	// RevocationTopic is a compacted topic of revoked tokens. While it has not been read, no token is
	// accepted. Users must not be able to write to it. Empty: no token is revoked.
	RevocationTopic string

	// InsecureSessionCookie lets browsers send the session cookie over plain HTTP, where anybody on the
	// way can read it. Listen must be a loopback address.
	InsecureSessionCookie bool
	// AllowLoopbackOrigins lets pages that this machine serves (http or https on localhost or a loopback address, any
	// port) use the server like pages of AllowOrigin. For development: every program on the user's machine can
	// serve such a page. Default: false.
	AllowLoopbackOrigins bool
	// Demo serves the demo page at /. It needs EnablePublish.
	Demo bool

	// Middleware wraps the handler of the public listener; integration/transports adds routes with it. Over HTTP/2 it runs
	// on a goroutine that ends once the stream is open, while the stream goes on. The default, nil, wraps nothing.
	Middleware func(http.Handler) http.Handler

	// TraceEndpoint is the URL of an OpenTelemetry collector that takes OTLP over HTTP, such as http://localhost:4318. It gets a
	// span of each traced record for each stream. Empty, the default: no tracing.
	TraceEndpoint string

	// Version is a label of herald_build_info and stands in the log.
	Version string
	// Logger gets the log. Nil: nothing is logged.
	Logger *slog.Logger
	// FieldName returns what errors call a field of this struct. Nil: its name in Go. A command returns
	// the name of the flag that sets the field.
	FieldName func(field string) string
}

// DefaultConfig returns a configuration with every default. It has neither brokers nor routes nor keys.
func DefaultConfig() Config {
	return Config{
		Listen:           "127.0.0.1:8080",
		AdminListen:      "127.0.0.1:8081",
		EventTypeHeader:  "event-type",
		Heartbeat:        15 * time.Second,
		WriteTimeout:     10 * time.Second,
		ReplayCacheBytes: 48 << 20,
		Settings: Settings{
			Retry:              2 * time.Second,
			MaxQueueBytes:      256 << 10,
			ReplayMaxRecords:   10_000_000,
			ReplayRatePerUser:  64 << 20,
			DrainWindow:        5 * time.Second,
			DrainTimeout:       10 * time.Second,
			MaxStreamsPerUser:  256,
			TrustedProxyHeader: headerXForwardedFor,
			PublishMaxBytes:    1 << 20,
			PublishRate:        100,
			PublishBurst:       200,
			JWTUserClaim:       "sub",
			SessionSameSite:    http.SameSiteStrictMode,
		},
	}
}

func (c *Config) name(field string) string {
	if c.FieldName == nil {
		return field
	}
	return c.FieldName(field)
}
