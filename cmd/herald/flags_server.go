package main

import (
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/alecthomas/kong"

	"herald/cmd/herald/server"
)

// serverFlags are the flags of both commands that start a server. Their defaults and bounds are those
// of [server.Config].
type serverFlags struct {
	Config string `placeholder:"FILE" help:"YAML file whose keys are names of flags, such as \"listen: 0.0.0.0:8080\". Flags and environment variables take precedence over it. Default: no file." group:"Configuration"`

	Listen        string `default:"${default_listen}" placeholder:"ADDRESS" help:"Address of the public listener: HOST:PORT (port 0 takes a free port, which the log names), unix:PATH for a Unix socket with mode 0660, or systemd for the socket that systemd passes (FileDescriptorName=public). Default: ${default}." group:"Listeners"`
	AdminListen   string `default:"${default_admin_listen}" placeholder:"ADDRESS" help:"Address of the admin listener, which serves /livez, /readyz, /metrics and /debug/streams without authentication, so that clients that reach it see the users and can end their streams: HOST:PORT, unix:PATH, or systemd (FileDescriptorName=admin). Default: ${default}." group:"Listeners"`
	AdminPprof    bool   `help:"Serve profiles of CPU, memory and goroutines on the admin listener, at /debug/pprof/. Default: off." group:"Listeners"`
	BasePath      string `placeholder:"/PREFIX" help:"Path under which the public listener has its routes, for a proxy that passes paths on as they are: with /herald, the stream is at /herald/events. Default: none." group:"Listeners"`
	ProxyProtocol bool   `help:"Want a PROXY header, version 1 or 2, at the beginning of each connection from --trusted-proxies to the public listener, and take the client's address from it. Connections of others must not have one. Default: off." group:"Listeners"`

	EventTypeHeader   string        `default:"${default_event_type_header}" placeholder:"NAME" help:"Record header that holds the event type. Default: ${default}." group:"Streams"`
	RecordHeader      []string      `placeholder:"NAME" help:"Record headers that a client gets if it asks for them (?fields=headers). Clients see no other header, but every header listed here is visible to all users who get the record. Default: none." group:"Streams"`
	Heartbeat         time.Duration `default:"${default_heartbeat}" placeholder:"DURATION" help:"Time between heartbeats on a quiet stream, which keep proxies from closing it. Default: ${default}." group:"Streams"`
	Retry             time.Duration `default:"${default_retry}" placeholder:"DURATION" help:"Time after which a client reconnects. The server sends each client a random value from half of it to one and a half of it. Default: ${default}." group:"Streams"`
	WriteTimeout      time.Duration `default:"${default_write_timeout}" placeholder:"DURATION" help:"Time that a client may take to accept bytes. The server closes a stream whose client accepts nothing for this long. Default: ${default}." group:"Streams"`
	MaxQueueBytes     int           `default:"${default_max_queue_bytes}" placeholder:"BYTES" help:"Most bytes that wait for one slow stream. The server drops what exceeds it, and reads it from Kafka again once the client has caught up. Default: ${default}." group:"Streams"`
	ReplayMaxAge      time.Duration `default:"0s" placeholder:"DURATION" help:"Age of the oldest records that the server sends to a resuming client. A gap event reports older ones. 0: no limit. Default: ${default}." group:"Streams"`
	ReplayMaxRecords  int64         `default:"${default_replay_max_records}" placeholder:"NUMBER" help:"Most offsets of a partition that the server reads again for a resuming client. A gap event reports the rest. 0: no limit. Default: ${default}." group:"Streams"`
	ReplayRatePerUser int           `default:"${default_replay_rate_per_user}" placeholder:"BYTES" help:"Most bytes of logs a second that the server reads for one user's resuming clients, besides the newest records in memory, on average over some minutes. The clients of a user who exceeds it wait. Users who need the same records share what reading them costs. 0: no limit. Default: ${default}." group:"Streams"`
	ReplayCacheBytes  int           `default:"${default_replay_cache_bytes}" placeholder:"BYTES" help:"Memory for records that resuming clients need. Three quarters hold the newest records of all partitions. A quarter holds older records that several clients in turn need. The server reads all other records from Kafka. Default: ${default}." group:"Streams"`
	DrainWindow       time.Duration `default:"${default_drain_window}" placeholder:"DURATION" help:"Time over which the streams end after SIGTERM, so that their clients do not reach other replicas all at once. It is shorter if there are few streams, and at most half of --drain-timeout. Default: ${default}." group:"Streams"`
	DrainTimeout      time.Duration `default:"${default_drain_timeout}" placeholder:"DURATION" help:"Time that streams and requests have to end after SIGTERM; the server cuts off the rest. Default: ${default}." group:"Streams"`

	MaxStreams           int      `default:"0" placeholder:"NUMBER" help:"Most streams at a time. The server asks clients above it to come back later. 0: as many as the limit of open files allows. Default: ${default}." group:"Limits"`
	MaxStreamsPerUser    int      `default:"${default_max_streams_per_user}" placeholder:"NUMBER" help:"Most streams of one user; a new stream ends the oldest one. In 10 seconds a user may also close this many streams, but at least 16; after that the server refuses new streams for a moment. The same number bounds the user's polls (?wait=), apart from the streams. 0: no limit. Default: ${default}." group:"Limits"`
	MaxStreamsPerAddress int      `default:"0" placeholder:"NUMBER" help:"Most streams of one client address. The server asks clients above it to come back later. Behind a proxy, set --trusted-proxies too. 0: no limit. Default: ${default}." group:"Limits"`
	MaxOpensPerSecond    float64  `default:"0" placeholder:"NUMBER" help:"Most streams opened in a second. The server asks clients above it to come back later. 0: no limit. Default: ${default}." group:"Limits"`
	TrustedProxies       []string `placeholder:"CIDR" help:"Networks of proxies, such as 10.0.0.0/8, whose header names the client's address: see --trusted-proxy-header and --proxy-protocol; unix stands for the clients of a Unix socket. Default: none; the client's address is the address of the connection." group:"Limits"`
	TrustedProxyHeader   string   `default:"${default_trusted_proxy_header}" enum:"x-forwarded-for,forwarded" placeholder:"NAME" help:"Header to which the trusted proxies append the client's address: x-forwarded-for, or forwarded (RFC 7239). The server reads only this one, because a client can send the other one through a proxy. Default: ${default}." group:"Limits"`

	TraceEndpoint string `placeholder:"URL" help:"OpenTelemetry collector that gets a span for each stream that gets a traced record, by OTLP over HTTP, such as http://localhost:4318. A record is traced if its header traceparent has the flag sampled. The variables OTEL_EXPORTER_OTLP_HEADERS, OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES apply. Default: no tracing." group:"Tracing"`

	LogLevel  logLevel `default:"info" placeholder:"LEVEL" help:"Lowest level that is logged: debug, info, warn or error. Default: ${default}." group:"Log"`
	LogFormat string   `default:"text" enum:"text,json" placeholder:"FORMAT" help:"Format of the log on standard error: text or json. Default: ${default}." group:"Log"`
}

// publishFlags bound how users publish.
type publishFlags struct {
	EnablePublish   bool    `help:"Serve POST /users/{user}/notifications and POST /broadcast, for tokens that may publish. Default: off." group:"Publishing"`
	PublishMaxBytes int64   `default:"${default_publish_max_bytes}" placeholder:"BYTES" help:"Longest notification; the server refuses longer ones with 413. Kafka has a limit of its own, by default a little higher. Default: ${default}." group:"Publishing"`
	PublishRate     float64 `default:"${default_publish_rate}" placeholder:"NUMBER" help:"Notifications a second that one user, or without authentication one address, may publish on this replica. The server refuses more with 429 and Retry-After. 0: no limit. Default: ${default}." group:"Publishing"`
	PublishBurst    int     `default:"${default_publish_burst}" placeholder:"NUMBER" help:"Notifications that one user may publish at once before --publish-rate slows the user down. Default: ${default}." group:"Publishing"`
}

// serverDefaults returns the defaults of [server.Config] as variables for the tags of flags.
func serverDefaults() kong.Vars {
	d := server.DefaultConfig()
	return kong.Vars{
		"default_listen":               d.Listen,
		"default_admin_listen":         d.AdminListen,
		"default_event_type_header":    d.EventTypeHeader,
		"default_heartbeat":            d.Heartbeat.String(),
		"default_retry":                d.Retry.String(),
		"default_write_timeout":        d.WriteTimeout.String(),
		"default_max_queue_bytes":      strconv.Itoa(d.MaxQueueBytes),
		"default_replay_max_records":   strconv.FormatInt(d.ReplayMaxRecords, 10),
		"default_replay_rate_per_user": strconv.Itoa(d.ReplayRatePerUser),
		"default_replay_cache_bytes":   strconv.Itoa(d.ReplayCacheBytes),
		"default_drain_window":         d.DrainWindow.String(),
		"default_drain_timeout":        d.DrainTimeout.String(),
		"default_max_streams_per_user": strconv.Itoa(d.MaxStreamsPerUser),
		"default_trusted_proxy_header": d.TrustedProxyHeader,
		"default_publish_max_bytes":    strconv.FormatInt(d.PublishMaxBytes, 10),
		"default_publish_rate":         strconv.FormatFloat(d.PublishRate, 'f', -1, 64),
		"default_publish_burst":        strconv.Itoa(d.PublishBurst),
		"default_jwt_user_claim":       d.JWTUserClaim,
	}
}

// apply sets the fields of cfg.
func (s *serverFlags) apply(cfg *server.Config) {
	cfg.Listen, cfg.AdminListen, cfg.AdminPprof, cfg.ProxyProtocol = s.Listen, s.AdminListen, s.AdminPprof, s.ProxyProtocol
	cfg.BasePath = s.BasePath
	cfg.EventTypeHeader, cfg.Heartbeat, cfg.Retry, cfg.WriteTimeout = s.EventTypeHeader, s.Heartbeat, s.Retry, s.WriteTimeout
	cfg.RecordHeader = s.RecordHeader
	cfg.MaxQueueBytes, cfg.ReplayMaxAge, cfg.ReplayMaxRecords = s.MaxQueueBytes, s.ReplayMaxAge, s.ReplayMaxRecords
	cfg.ReplayRatePerUser, cfg.ReplayCacheBytes = s.ReplayRatePerUser, s.ReplayCacheBytes
	cfg.DrainWindow, cfg.DrainTimeout = s.DrainWindow, s.DrainTimeout
	cfg.MaxStreams, cfg.MaxStreamsPerUser, cfg.MaxStreamsPerAddress = s.MaxStreams, s.MaxStreamsPerUser, s.MaxStreamsPerAddress
	cfg.MaxOpensPerSecond, cfg.TrustedProxies, cfg.TrustedProxyHeader = s.MaxOpensPerSecond, s.TrustedProxies, s.TrustedProxyHeader
	cfg.TraceEndpoint = s.TraceEndpoint
	cfg.Version, cfg.FieldName = buildVersion(), flagOf
}

// apply sets the fields of cfg.
func (p *publishFlags) apply(cfg *server.Config) {
	cfg.EnablePublish, cfg.PublishMaxBytes, cfg.PublishRate, cfg.PublishBurst = p.EnablePublish, p.PublishMaxBytes, p.PublishRate, p.PublishBurst
}

// flagOf returns the flag that sets a field of [server.Config]: --jwt-user-claim for JWTUserClaim.
func flagOf(field string) string {
	runes := []rune(field)
	var name strings.Builder
	for i, r := range runes {
		startsWord := i > 0 && unicode.IsUpper(r) && (unicode.IsLower(runes[i-1]) || i+1 < len(runes) && unicode.IsLower(runes[i+1]))
		if startsWord {
			name.WriteByte('-')
		}
		name.WriteRune(unicode.ToLower(r))
	}
	return "--" + name.String()
}

// logLevel is the text of a [slog.Level].
type logLevel slog.Level

// UnmarshalText implements [encoding.TextUnmarshaler].
func (l *logLevel) UnmarshalText(text []byte) error {
	if (*slog.Level)(l).UnmarshalText(text) != nil {
		return fmt.Errorf("%q: want debug, info, warn or error", text)
	}
	return nil
}

// logger returns the log, and its level, which may be changed.
func (s *serverFlags) logger() (*slog.Logger, *slog.LevelVar) {
	level := new(slog.LevelVar)
	level.Set(slog.Level(s.LogLevel))
	opts := &slog.HandlerOptions{Level: level}
	if s.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, opts)), level
	}
	return slog.New(slog.NewTextHandler(os.Stderr, opts)), level
}
