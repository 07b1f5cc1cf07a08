package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"herald/cmd/herald/listener"
	"herald/cmd/herald/server"
	"herald/consumer"
)

// gcPercent is what `herald serve` sets GOGC to.
const gcPercent = 50

// serveCommand is the server of a session: Herald's own, with routes for the other transports.
type serveCommand struct {
	Brokers          []string `required:"" help:"Kafka's brokers."`
	Topic            string   `required:"" help:"The topic of the records, keyed by user. It is also the name of the consumer group."`
	TLS              bool     `name:"tls" help:"Serve TLS, with a certificate that nobody has signed."`
	ReplayCacheBytes int      `required:"" help:"Like the flag of herald serve."`
	Listen           string   `default:"127.0.0.1:0" help:"Address of the streams."`
}

// Run serves until standard input ends. It prints the addresses of the streams and of the admin listener as one line. For
// each line that it reads, it gives the memory of garbage back to the system and prints a line.
func (s *serveCommand) Run(ctx context.Context) error {
	debug.SetGCPercent(gcPercent)
	cfg := server.DefaultConfig()
	cfg.Listen, cfg.AdminListen = s.Listen, "127.0.0.1:0"
	cfg.Consumer = consumer.Config{Brokers: s.Brokers, Group: s.Topic, Replica: strconv.Itoa(os.Getpid()), Routes: []consumer.Route{{Topic: s.Topic}}}
	cfg.InsecureNoAuth = true
	cfg.MaxStreamsPerUser = 0 // Herald would ask a user who closes hundreds of streams in 10 s to come back later
	cfg.ReplayCacheBytes = s.ReplayCacheBytes
	cfg.Middleware = withTransports
	cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	if s.TLS {
		dir, err := os.MkdirTemp("", "transports")
		if err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(dir) }()
		if cfg.Certificate, err = newCertificate(dir); err != nil {
			return err
		}
	}
	srv, err := server.New(cfg)
	if err != nil {
		return err
	}
	if err := srv.Start(ctx); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(os.Stdout, srv.Addr(), srv.AdminAddr()); err != nil {
		return errors.Join(err, srv.Stop())
	}
	over := make(chan struct{})
	go func() {
		for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
			debug.FreeOSMemory()
			_, _ = fmt.Fprintln(os.Stdout, "collected")
		}
		close(over)
	}()
	select {
	case <-over:
	case <-ctx.Done():
	case <-srv.Failed():
	}
	return srv.Stop()
}

// The routes of the transports. /events is Herald's own.
const (
	eventsPath    = "/events"
	netHTTPPath   = "/nethttp/events"
	webSocketPath = "/ws/events"
)

// withTransports adds routes to Herald's handler. They all end in Herald's /events.
func withTransports(herald http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case pagePath:
			servePage(w, r)
		case netHTTPPath:
			herald.ServeHTTP(notTakenOver{w}, asEvents(r))
		case webSocketPath:
			serveWebSocket(herald, w, r)
		default:
			herald.ServeHTTP(w, r)
		}
	})
}

// asEvents returns the request as one to Herald's /events.
func asEvents(r *http.Request) *http.Request {
	r.URL.Path = eventsPath
	r.RequestURI = r.URL.RequestURI()
	return r
}

// notTakenOver is a response whose connection Herald cannot take over (http.Hijacker), so net/http serves the stream.
type notTakenOver struct{ writer http.ResponseWriter }

func (w notTakenOver) Header() http.Header         { return w.writer.Header() }
func (w notTakenOver) Write(p []byte) (int, error) { return w.writer.Write(p) }
func (w notTakenOver) WriteHeader(status int)      { w.writer.WriteHeader(status) }
func (w notTakenOver) FlushError() error           { return http.NewResponseController(w.writer).Flush() }

func (w notTakenOver) SetReadDeadline(t time.Time) error {
	return http.NewResponseController(w.writer).SetReadDeadline(t)
}

func (w notTakenOver) SetWriteDeadline(t time.Time) error {
	return http.NewResponseController(w.writer).SetWriteDeadline(t)
}

// newCertificate writes a certificate for localhost, signed by itself, to dir.
func newCertificate(dir string) (*listener.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	signed, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	var text strings.Builder
	_ = pem.Encode(&text, &pem.Block{Type: "CERTIFICATE", Bytes: signed})
	_ = pem.Encode(&text, &pem.Block{Type: "PRIVATE KEY", Bytes: private})
	file := filepath.Join(dir, "certificate.pem")
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		return nil, err
	}
	return listener.LoadCertificate(file, file, slog.New(slog.DiscardHandler))
}
