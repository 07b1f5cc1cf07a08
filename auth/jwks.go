package auth

import (
	"crypto/x509"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"herald/auth/remote"
)

const (
	jwksTimeout = 5 * time.Second  // limit for a whole fetch
	jwksPause   = 10 * time.Second // shortest time between fetches for tokens that no key verifies; after failures the pause grows from 1 s to this
	maxJWKS     = 1 << 20          // bytes of a key set
	maxJWKSKeys = 100              // keys of a key set; a token without "kid" is tried with each of them

	minJWKSRefresh = time.Minute
	maxJWKSRefresh = 24 * time.Hour
)

// JWKSConfig locates a JSON Web Key Set (RFC 7517, section 5).
type JWKSConfig struct {
	// URL is the address of the key set. An address without TLS must be on this machine, unless AllowHTTP
	// is set: an attacker who can change the response can sign tokens.
	URL string
	// AllowHTTP allows an address without TLS on another machine. It is for networks in which nobody can
	// change the response, such as the network of a cluster.
	AllowHTTP bool
	// RootCAs are the authorities that may sign the server's certificate. Nil: the system's.
	RootCAs *x509.CertPool
	// Refresh is the time between fetches, 1 min to 24 h. A key that the issuer removes from the set
	// stays valid up to this long. Zero: 10 min.
	Refresh time.Duration
	// Algorithms are the algorithms that [JWTConfig] allows. A set without a key for any of them could verify no token, so
	// JWKS reports it. Nil: every algorithm is allowed.
	Algorithms []string
	// Logger logs failed fetches and keys of the set that were skipped. Nil: no logging.
	Logger *slog.Logger
}

// JWKS holds the keys of a JSON Web Key Set that it fetches from a URL. It fetches the set at the start and once
// in each refresh interval. It also fetches the set when a token names an unknown key, or when no key verifies a token's
// signature, at most once in 10 s.
// The last fetched keys stay valid while the endpoint is down, or returns something that is not a key set.
//
// The package jwkset parses the keys. It does not fetch them, because in its client requests with an
// unknown key wait one by one for a rate limit, an empty set or a JSON error removes all keys, and the
// size of a response has no limit.
//
// JWKS is a [prometheus.Collector] of its own metrics. It is safe for concurrent use.
type JWKS struct {
	cfg     JWKSConfig
	client  *http.Client
	wanted  chan struct{} // requests a fetch from Run
	fetches *prometheus.CounterVec
	age     prometheus.GaugeFunc

	mu       sync.Mutex
	keys     []key            // nil until the first successful fetch
	leftOut  map[string]error // by id: why a key of the set is not in keys
	fetched  time.Time        // end of the last successful fetch
	lastTry  time.Time        // end of the last fetch, successful or not
	lastErr  error            // error of the last fetch; nil: it was successful
	noUse    error            // why none of keys can verify a token; nil: some can
	usable   bool             // a fetch has brought keys that can verify tokens
	pause    time.Duration    // time after lastTry in which tokens cause no fetch
	fetching bool             // whether a fetch is under way or has been requested
	ended    chan struct{}    // closed at the end of the next fetch
}

// NewJWKS returns an error that says what to do if cfg is invalid. [JWKS.Run] fetches the keys.
func NewJWKS(cfg JWKSConfig) (*JWKS, error) {
	address := remote.Address{
		URL: cfg.URL, Example: "https://issuer.example/.well-known/jwks.json",
		AllowHTTP: cfg.AllowHTTP, HTTPFlag: "--insecure-jwks-http", HTTPRisk: "an attacker who can change the response can sign tokens",
	}
	if err := address.Check(); err != nil {
		return nil, err
	}
	if cfg.Refresh == 0 {
		cfg.Refresh = 10 * time.Minute
	}
	if cfg.Refresh < minJWKSRefresh || cfg.Refresh > maxJWKSRefresh {
		return nil, fmt.Errorf("the time between fetches of the key set is %v, want %v to %v", cfg.Refresh, minJWKSRefresh, maxJWKSRefresh)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	j := &JWKS{
		cfg:    cfg,
		wanted: make(chan struct{}, 1),
		ended:  make(chan struct{}),
		fetches: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "herald_jwks_fetches_total", Help: "Fetches of the key set, by result: ok or error.",
		}, []string{"result"}),
	}
	j.client = remote.NewClient(cfg.RootCAs, jwksTimeout)
	j.age = prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "herald_jwks_fetched_timestamp_seconds", Help: "Unix time of the last fetch of the key set that worked; 0 before the first.",
	}, j.fetchedSeconds)
	for _, result := range []string{"ok", "error"} {
		j.fetches.WithLabelValues(result)
	}
	return j, nil
}

// Describe implements [prometheus.Collector].
func (j *JWKS) Describe(to chan<- *prometheus.Desc) {
	j.fetches.Describe(to)
	j.age.Describe(to)
}

// Collect implements [prometheus.Collector].
func (j *JWKS) Collect(to chan<- prometheus.Metric) {
	j.fetches.Collect(to)
	j.age.Collect(to)
}

func (j *JWKS) fetchedSeconds() float64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.fetched.IsZero() {
		return 0
	}
	return float64(j.fetched.UnixMilli()) / 1000
}

// Ready returns nil if there are keys for the allowed algorithms, and otherwise an [ErrUnavailable] that gives the reason.
func (j *JWKS) Ready() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.noUse != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, j.noUse)
	}
	if j.keys != nil {
		return nil
	}
	if j.lastErr != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, j.lastErr)
	}
	return fmt.Errorf("%w: not fetched yet", ErrUnavailable)
}

// AllowAlgorithms changes [JWKSConfig.Algorithms].
func (j *JWKS) AllowAlgorithms(names []string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.cfg.Algorithms = names
	if j.keys != nil {
		j.noUse = checkUse(j.keys, names)
	}
}

// HasSource reports whether both key sets are fetched from the same URL in the same way.
func (j *JWKS) HasSource(other *JWKS) bool {
	a, b := &j.cfg, &other.cfg
	return a.URL == b.URL && a.AllowHTTP == b.AllowHTTP && a.Refresh == b.Refresh && a.RootCAs.Equal(b.RootCAs)
}

// Loaded returns nil once there have been keys for the allowed algorithms, and before that the error of [JWKS.Ready].
func (j *JWKS) Loaded() error {
	j.mu.Lock()
	usable := j.usable
	j.mu.Unlock()
	if usable {
		return nil
	}
	return j.Ready()
}

// algorithms implements [Keys]. It returns nil because the issuer may add keys of any kind later.
func (j *JWKS) algorithms() []string { return nil }
