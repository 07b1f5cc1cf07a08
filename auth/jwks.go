package auth

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	jwksTimeout = 5 * time.Second  // for one fetch, all of it
	jwksPause   = 10 * time.Second // between fetches that tokens ask for; after failures it grows from 1 s to this
	maxJWKS     = 1 << 20          // bytes of a set
	maxJWKSKeys = 100              // of a set: a token without "kid" is tried with each

	minJWKSRefresh = time.Minute
	maxJWKSRefresh = 24 * time.Hour
)

// JWKSConfig says where a JSON Web Key Set is (RFC 7517, section 5).
type JWKSConfig struct {
	// URL is the set's address. Without TLS it must be on this machine: whoever can change the
	// answer can make tokens.
	URL string
	// RootCAs are those that sign the server's certificate. Nil: those of the system.
	RootCAs *x509.CertPool
	// Refresh is the time between fetches, 1 min to 24 h. A key that is gone from the set is good
	// for so long. Zero: 10 min.
	Refresh time.Duration
	// Logger gets what goes wrong. Nil: nobody.
	Logger *slog.Logger
}

// JWKS has its keys from a URL. They are fetched at the start, every now and then, and when a token
// names a key that is not there, but not more than once in 10 s. While the endpoint is away, or
// answers with what is no set of keys, those that were fetched last are good.
//
// The parsing is jwkset's. The fetching is not, because an unknown key would there make requests
// wait for a rate limit one by one, a set that is empty or an error in JSON take the keys away, and an
// answer have no limit.
//
// It is a [prometheus.Collector] of its own metrics.
type JWKS struct {
	cfg     JWKSConfig
	client  *http.Client
	wanted  chan struct{} // asks run for a fetch
	fetches *prometheus.CounterVec
	age     prometheus.GaugeFunc

	mu      sync.Mutex
	keys    []key         // nil until the first fetch that worked
	fetched time.Time     // when that was; of the last one
	tried   time.Time     // when the last fetch ended, whatever came of it
	pause   time.Duration // from then on
	asked   bool          // a fetch is under way, or will be at once
	err     error         // what came of it
	next    chan struct{} // closed when the next fetch has ended
}

// NewJWKS returns an error that says what to do if cfg cannot be. Nothing is fetched before Run.
func NewJWKS(cfg JWKSConfig) (*JWKS, error) {
	u, err := url.Parse(cfg.URL)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return nil, errors.New("want a URL like https://issuer.example/.well-known/jwks.json")
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		return nil, errors.New("want https: whoever can change the answer can make tokens (http is for this machine only)")
	case u.User != nil:
		return nil, errors.New("want no user and password in the URL: the keys are public")
	}
	if cfg.Refresh == 0 {
		cfg.Refresh = 10 * time.Minute
	}
	if cfg.Refresh < minJWKSRefresh || cfg.Refresh > maxJWKSRefresh {
		return nil, fmt.Errorf("the keys are fetched every %v, want %v to %v", cfg.Refresh, minJWKSRefresh, maxJWKSRefresh)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	j := &JWKS{
		cfg:    cfg,
		wanted: make(chan struct{}, 1),
		next:   make(chan struct{}),
		fetches: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "herald_jwks_fetches_total", Help: "Fetches of the key set, by result: ok or error.",
		}, []string{"result"}),
	}
	j.client = &http.Client{
		Timeout: jwksTimeout,
		Transport: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: cfg.RootCAs},
			ForceAttemptHTTP2:      true,
			MaxResponseHeaderBytes: 64 << 10,
			IdleConnTimeout:        30 * time.Second,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	j.age = prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "herald_jwks_fetched_timestamp_seconds", Help: "Unix time of the last fetch of the key set that worked; 0 before the first.",
	}, j.fetchedAt)
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

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (j *JWKS) fetchedAt() float64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.fetched.IsZero() {
		return 0
	}
	return float64(j.fetched.UnixMilli()) / 1000
}

// Ready returns why there are no keys, nil if there are some.
func (j *JWKS) Ready() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.keys != nil {
		return nil
	}
	if j.err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, j.err)
	}
	return fmt.Errorf("%w: not fetched yet", ErrUnavailable)
}

// Run fetches the keys until ctx ends.
func (j *JWKS) Run(ctx context.Context) {
	defer j.client.CloseIdleConnections()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-j.wanted:
		}
		j.begin()
		keys, err := j.fetch(ctx)
		if ctx.Err() != nil {
			return
		}
		timer.Reset(j.took(keys, err))
	}
}

// begin notes that a fetch is under way, which serves all who have asked for one.
func (j *JWKS) begin() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.asked = true
	select {
	case <-j.wanted:
	default:
	}
}

// took keeps what a fetch has brought and returns the time until the next. Each change for the worse is
// logged once.
func (j *JWKS) took(keys []key, err error) time.Duration {
	result := "ok"
	if err != nil {
		result = "error"
	}
	j.fetches.WithLabelValues(result).Inc()
	j.mu.Lock()
	defer j.mu.Unlock()
	next := j.cfg.Refresh
	switch {
	case err == nil:
		if j.err != nil {
			j.cfg.Logger.Info("the key set is fetched again", "url", j.cfg.URL, "keys", len(keys))
		}
		j.keys, j.fetched, j.pause = keys, time.Now(), jwksPause
	case j.err == nil || j.err.Error() != err.Error():
		j.cfg.Logger.Error("the key set cannot be fetched", "url", j.cfg.URL, "no_keys", j.keys == nil, "error", err)
		fallthrough
	default:
		if j.err == nil {
			j.pause = time.Second / 2
		}
		j.pause = min(2*j.pause, jwksPause)
		next = j.pause
	}
	j.tried, j.err, j.asked = time.Now(), err, false
	close(j.next)
	j.next = make(chan struct{})
	return next
}

// find implements [Keys]. A key that is not known is asked for, which all who want one do together.
func (j *JWKS) find(ctx context.Context, kid string) ([]key, error) {
	ctx, cancel := context.WithTimeout(ctx, jwksTimeout+time.Second)
	defer cancel()
	for {
		keys, next, err := j.ask(kid)
		if next == nil {
			return keys, err
		}
		select {
		case <-next:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
		}
	}
}

// ask returns the keys, or why there are none, or what to wait for.
func (j *JWKS) ask(kid string) ([]key, <-chan struct{}, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	fresh := !j.tried.IsZero() && time.Since(j.tried) < j.pause
	switch keys := matching(j.keys, kid); {
	case len(keys) > 0:
		return keys, nil, nil
	case fresh && j.err != nil:
		return nil, nil, fmt.Errorf("%w: %w", ErrUnavailable, j.err)
	case fresh:
		return nil, nil, fmt.Errorf("%w: no such key in the set", ErrInvalidToken)
	}
	if !j.asked {
		j.asked = true
		j.wanted <- struct{}{} // has room: begin takes it out
	}
	return nil, j.next, nil
}

// matching returns the keys with this id, and those without one. No id matches all.
func matching(keys []key, kid string) []key {
	if kid == "" {
		return keys
	}
	var some []key
	for _, k := range keys {
		if k.id == kid || k.id == "" {
			some = append(some, k)
		}
	}
	return some
}

// algorithms implements [Keys]: which keys there will be nobody knows.
func (j *JWKS) algorithms() []string { return nil }
