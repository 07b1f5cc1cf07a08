package server

import (
	"net/http"
	"time"

	"herald/auth"
)

// Settings are the part of a [Config] that [Server.Reload] changes while the server runs.
type Settings struct {
	// Retry is the reconnection time that clients are sent. Each client gets a value from half of it to
	// one and a half of it, so that clients do not reconnect all at once. Default: 2 s.
	Retry time.Duration
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
	// for the clients of a Unix socket. A network that is not a proxy's lets its clients forge their address.
	// Default: none.
	TrustedProxies []string
	// TrustedProxyHeader is the header to which all TrustedProxies append: x-forwarded-for, or forwarded
	// (RFC 7239). Only one is read: a proxy passes on the other one as its client wrote it. Default:
	// x-forwarded-for.
	TrustedProxyHeader string

	// PublishMaxBytes bounds one notification. Kafka has a limit of its own. Default: 1 MiB.
	PublishMaxBytes int64
	// PublishRate is how many notifications one user may publish in a second on this replica; without
	// authentication, one client address. Zero: no limit. Default: 100.
	PublishRate float64
	// PublishBurst is how many notifications one user may publish at once. Default: 200.
	PublishBurst int

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
	// TokenQueryParameter is a query parameter that may hold a token. URLs end up in histories and logs.
	// Empty: none.
	TokenQueryParameter string
	// SessionSameSite is the SameSite attribute of the session cookie. Default: strict.
	SessionSameSite http.SameSite
	// AllowOrigin are other origins whose pages may use the server with the user's session cookie, exactly as
	// browsers write them: https://app.example, capacitor://localhost. In https://*.app.example, the wildcard
	// stands for one whole label. Default: none.
	AllowOrigin []string
	// AllowHeader are request headers that pages of other origins may send besides the headers that Herald reads and
	// the headers of tracing, such as X-Request-ID. Default: none.
	AllowHeader []string
}
