package server

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"go.uber.org/goleak"

	"herald/auth"
	"herald/consumer"
)

// TestMain fails the package if a goroutine is left when its tests are done.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// testRoutes has one route of each kind.
var testRoutes = []consumer.Route{
	{Topic: "notifications"},
	{Topic: "notifications.{user}", Kind: consumer.PerUser},
	{Topic: "announcements", Kind: consumer.Broadcast},
}

// testReadTimeout is the read time-out of startImpatient.
const testReadTimeout = 2 * time.Second

// testConfig returns a configuration for two free ports, without authentication.
func testConfig(brokers []string) Config {
	cfg := DefaultConfig()
	cfg.Listen, cfg.AdminListen = "127.0.0.1:0", "127.0.0.1:0"
	cfg.Consumer = consumer.Config{Brokers: brokers, Group: "test", Replica: "one", Routes: testRoutes}
	cfg.InsecureNoAuth, cfg.EnablePublish, cfg.PublishRate = true, true, 0
	return cfg
}

// newBroker runs an in-process broker with the topics of testRoutes.
func newBroker(t *testing.T) *kfake.Cluster {
	t.Helper()
	broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.AllowAutoTopicCreation(), kfake.DefaultNumPartitions(1),
		kfake.SeedTopics(3, "notifications"), kfake.SeedTopics(1, "announcements"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broker.Close)
	return broker
}

// startServer runs a server of testRoutes on an in-process broker, without authentication.
func startServer(t *testing.T) *Server {
	t.Helper()
	srv, _ := startServerWith(t, func(*Config) {})
	return srv
}

// startServerWith runs a server of testConfig with the change, and waits until Kafka answers it.
func startServerWith(t *testing.T, change func(*Config)) (*Server, *kfake.Cluster) {
	t.Helper()
	broker := newBroker(t)
	srv := newServer(t, broker, change)
	run(t, srv)
	return srv, broker
}

// newServer returns a server of testConfig with the change, which does not run yet.
func newServer(t *testing.T, broker *kfake.Cluster, change func(*Config)) *Server {
	t.Helper()
	cfg := testConfig(broker.ListenAddrs())
	change(&cfg)
	srv, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return srv
}

// startImpatient is like startServerWith, but the public listener's time-outs for reading are testReadTimeout. Other tests
// keep Herald's long time-outs, so that a slow machine does not fail them.
func startImpatient(t *testing.T, change func(*Config)) *Server {
	t.Helper()
	srv := newServer(t, newBroker(t), change)
	srv.public.ReadTimeout, srv.public.ReadHeaderTimeout = testReadTimeout, testReadTimeout
	run(t, srv)
	return srv
}

// run runs the server until the test ends, and waits until Kafka answers it.
func run(t *testing.T, srv *Server) {
	t.Helper()
	if err := srv.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := srv.Stop(); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	for deadline := time.Now().Add(20 * time.Second); srv.consumer.Ready() != nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(srv.consumer.Ready())
		}
	}
}

// secured is a server that authenticates by a secret, with its log and a signer of tokens.
type secured struct {
	*Server
	signer *auth.Signer
	broker *kfake.Cluster
	log    *logBuffer
	url    string
}

// testSecret signs the tokens of startSecured.
var testSecret = []byte(strings.Repeat("k", 32))

// requireTokens makes the configuration authenticate by testSecret.
func requireTokens(t *testing.T, cfg *Config) {
	t.Helper()
	keys, err := auth.Secret(testSecret)
	if err != nil {
		t.Fatal(err)
	}
	cfg.InsecureNoAuth, cfg.Keys = false, keys
}

// startSecured runs a server that authenticates by testSecret. change may be nil.
func startSecured(t *testing.T, change func(*Config)) *secured {
	t.Helper()
	s := &secured{log: new(logBuffer)}
	var err error
	if s.signer, err = auth.NewSecretSigner(testSecret); err != nil {
		t.Fatal(err)
	}
	s.Server, s.broker = startServerWith(t, func(cfg *Config) {
		cfg.Logger = slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		requireTokens(t, cfg)
		if change != nil {
			change(cfg)
		}
	})
	s.url = "http://" + s.Addr().String()
	return s
}

// token returns a token that is valid for an hour.
func (s *secured) token(t *testing.T, id auth.Identity) string {
	t.Helper()
	id.Expires = time.Now().Add(time.Hour)
	token, err := s.signer.Sign(id)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// transport sends the requests of tests. A client that waits less for the answer to "Expect: 100-continue" sends the body
// of a slow server's request unasked.
var transport = func() *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.ExpectContinueTimeout = time.Minute
	return t
}()

// send sends a request and returns the status, the header and the body. For a stream it returns the text
// up to the first checkpoint. It follows no redirect and keeps no cookie.
func send(t *testing.T, method, url, body string, header http.Header) (int, http.Header, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	maps.Copy(req.Header, header)
	res, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	defer res.Body.Close()
	var got []byte
	for piece := make([]byte, 4096); ; {
		n, err := res.Body.Read(piece)
		got = append(got, piece[:n]...)
		if err != nil && !errors.Is(err, io.EOF) {
			t.Fatalf("%s %s: %v", method, url, err)
		}
		if err != nil || bytes.Contains(got, []byte("checkpoint")) {
			return res.StatusCode, res.Header, string(got)
		}
	}
}

// call is send without headers.
func call(t *testing.T, method, url, body string) (int, string) {
	t.Helper()
	status, _, text := send(t, method, url, body, nil)
	return status, text
}

// request is send without a body.
func request(t *testing.T, method, url string, header http.Header) (int, http.Header, string) {
	t.Helper()
	return send(t, method, url, "", header)
}

// logBuffer is safe while the server runs.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func bearer(token string) http.Header { return http.Header{"Authorization": {"Bearer " + token}} }

// headers returns a header with the pairs. The arguments alternate: a name, its value, the next name.
func headers(pairs ...string) http.Header {
	h := http.Header{}
	for i := 0; i+1 < len(pairs); i += 2 {
		h.Add(pairs[i], pairs[i+1])
	}
	return h
}

// dial opens a TCP connection to the server.
func dial(t *testing.T, address string) net.Conn {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// await waits until get returns want. If it does not, the test fails with the last value.
func await[T comparable](t *testing.T, what string, want T, get func() T) {
	t.Helper()
	var got T
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if got = get(); got == want {
			return
		}
	}
	t.Fatalf("%s: %v, want %v", what, got, want)
}
