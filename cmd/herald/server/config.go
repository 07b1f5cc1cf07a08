package server

import (
	"log/slog"
	"net/http"
	"time"

	"herald/auth"
	"herald/cmd/herald/listener"
	"herald/consumer"
)

// Config is what a [Server] needs. [DefaultConfig] fills in the defaults; a zero field has the meaning
// that its comment gives, and no default. [Config.Validate] explains the bounds.
type Config struct {
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

	// EventTypeHeader is the record header that holds the event type. Default: event-type.
	EventTypeHeader string
	// RecordHeader names the record headers that clients get if they ask for them with the parameter fields. A header
	// of a broadcast reaches every user. Default: none.
	RecordHeader []string
	// Heartbeat is the time between heartbeats on a quiet stream. Proxies close a stream that is quiet
	// for longer than their own time-out. Shorter ones cost traffic and CPU for each stream. Default: 15 s.
	Heartbeat time.Duration
	// Retry is the reconnection time that clients are sent. Each client gets a value from half of it to
	// one and a half of it, so that clients do not reconnect all at once. Default: 2 s.
	Retry time.Duration
	// WriteTimeout closes a stream whose client accepts no byte for that long. Default: 10 s.
	WriteTimeout time.Duration
	// MaxQueueBytes bounds the bytes that wait for one slow stream. A stream that exceeds it drops them and
	// reads the records from Kafka again when its client has caught up. Default: 256 KiB.
	MaxQueueBytes int
	// ReplayMaxAge is the age of the oldest record that a resuming client is sent. The client is sent a
	// gap event for older ones. Zero, the default: no limit.
	ReplayMaxAge time.Duration
	// ReplayMaxRecords is how many offsets of a partition are read again for a resuming client. The
	// client is sent a gap event for the rest. Zero: no limit. Default: 10,000,000.
	ReplayMaxRecords int64
	// ReplayRatePerUser is how many bytes of logs a second are read for the resuming clients of one user, on average,
	// besides the newest records in memory. Zero: no limit. Default: 64 MiB.
	ReplayRatePerUser int
	// ReplayCacheBytes is the memory for records that resuming clients need. Three quarters hold the newest
	// records of all partitions. A quarter holds older records that several clients in turn need.
	// Default: 48 MiB.
	ReplayCacheBytes int
	// DrainWindow is the time over which Stop spreads the end of the streams, so that their clients do
	// not reach other replicas at once. Stop uses at most half of DrainTimeout. Default: 5 s.
	DrainWindow time.Duration
	// DrainTimeout is how long streams and requests may take to end in Stop. Stop cuts off the rest.
	// Default: 10 s.
	DrainTimeout time.Duration

	// MaxStreams bounds the streams. Zero, the default: as many as the limit of open files has room for,
	// which is the upper bound of other values too.
	MaxStreams int
	// MaxStreamsPerUser bounds the streams of one user; a new stream ends the user's oldest one. In 10 s
	// a user may also close this many streams, but at least 16. After that, the server asks the user's clients to
	// come back later. The same number bounds the user's polls, apart from the streams. Zero: no limit. Default: 256.
	MaxStreamsPerUser int
	// MaxStreamsPerAddress bounds the streams of one client address. All clients of a proxy have the
	// proxy's address, unless TrustedProxies names it. Zero, the default: no limit.
	MaxStreamsPerAddress int
	// MaxOpensPerSecond bounds the streams opened in a second. The server asks clients above it to come
	// back later. Zero, the default: no limit.
	MaxOpensPerSecond float64
	// TrustedProxies are networks, such as 10.0.0.0/8, of proxies whose header names the client's address; unix stands
	// for the clients of a Unix socket. A
	// network that is not a proxy's lets its clients forge their address. Default: none.
	TrustedProxies []string
	// TrustedProxyHeader is the header to which all TrustedProxies append: x-forwarded-for, or forwarded
	// (RFC 7239). Only one is read: a proxy passes on the other one as its client wrote it. Default:
	// x-forwarded-for.
	TrustedProxyHeader string

	// EnablePublish serves the two POST routes that write notifications. Default: false.
	EnablePublish bool
	// PublishMaxBytes bounds one notification. Kafka has a limit of its own. Default: 1 MiB.
	PublishMaxBytes int64
	// PublishRate is how many notifications one user may publish in a second on this replica; without
	// authentication, one client address. Zero: no limit. Default: 100.
	PublishRate float64
	// PublishBurst is how many notifications one user may publish at once. Default: 200.
	PublishBurst int

	// InsecureNoAuth accepts every request: the query parameter user names the user. For closed networks only.
	InsecureNoAuth bool
	// Keys verify tokens. They must be nil with InsecureNoAuth, and not nil without it. The server runs
	// an [auth.JWKS], which must not run elsewhere.
	Keys auth.Keys
	// JWTAlgorithms restrict the algorithms of tokens. Nil: every algorithm that fits the keys.
	JWTAlgorithms []string
	// JWTIssuer is the required claim iss. Empty: any.
	JWTIssuer string
	// JWTAudience are values of the claim aud, of which a token must have one. Nil: any, so the server
	// accepts tokens that the issuer made for other services too.
	JWTAudience []string
	// JWTUserClaim is the claim that holds the user. Default: sub.
	JWTUserClaim string
	// RevocationTopic is a compacted topic of revoked tokens. While it has not been read, no token is
	// accepted. Users must not be able to write to it. Empty: no token is revoked.
	RevocationTopic string

	// TokenQueryParameter is a query parameter that may hold a token. URLs end up in histories and logs.
	// Empty: none.
	TokenQueryParameter string
	// SessionSameSite is the SameSite attribute of the session cookie. Default: strict.
	SessionSameSite http.SameSite
	// InsecureSessionCookie lets browsers send the session cookie over plain HTTP, where anybody on the
	// way can read it. Listen must be a loopback address.
	InsecureSessionCookie bool
	// AllowOrigin are other origins whose pages may use the server with the user's session cookie, exactly as
	// browsers write them: https://app.example, capacitor://localhost. In https://*.app.example, the wildcard
	// stands for one whole label. Default: none.
	AllowOrigin []string
	// AllowHeader are request headers that pages of other origins may send besides the headers that Herald reads and
	// the headers of tracing, such as X-Request-ID. Default: none.
	AllowHeader []string
	// AllowLoopbackOrigins lets pages that this machine serves (http or https on localhost or a loopback address, any
	// port) use the server like pages of AllowOrigin. For development: every program on the user's machine can
	// serve such a page. Default: false.
	AllowLoopbackOrigins bool
	// Demo serves the demo page at /. It needs EnablePublish.
	Demo bool

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
		Listen:            "127.0.0.1:8080",
		AdminListen:       "127.0.0.1:8081",
		EventTypeHeader:   "event-type",
		Heartbeat:         15 * time.Second,
		Retry:             2 * time.Second,
		WriteTimeout:      10 * time.Second,
		MaxQueueBytes:     256 << 10,
		ReplayMaxRecords:  10_000_000,
		ReplayRatePerUser: 64 << 20,
		ReplayCacheBytes:  48 << 20,
		DrainWindow:       5 * time.Second,
		DrainTimeout:      10 * time.Second,

		MaxStreamsPerUser:  256,
		TrustedProxyHeader: headerXForwardedFor,

		PublishMaxBytes: 1 << 20,
		PublishRate:     100,
		PublishBurst:    200,

		JWTUserClaim:    "sub",
		SessionSameSite: http.SameSiteStrictMode,
	}
}

func (c *Config) name(field string) string {
	if c.FieldName == nil {
		return field
	}
	return c.FieldName(field)
}
