package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"herald/auth"
	"herald/cmd/herald/bench"
	"herald/cmd/herald/server"
	"herald/cmd/herald/tail"
)

// benchArgs returns the arguments of a short measurement with few streams.
func benchArgs(url string, broker *kfake.Cluster, more ...string) []string {
	return with([]string{
		"bench", "--url=" + url, "--brokers=" + broker.ListenAddrs()[0], "--streams=50", "--streams-per-user=5", "--rate=500", "--duration=500ms", "--settle=0s", "--patience=30s",
	}, more...)
}

// benchReport runs the command and returns its report, read from the JSON.
func benchReport(t *testing.T, args ...string) (report bench.Report, code int, stderr string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "report.json")
	code, stderr = start(t, with(args, "--json="+file)...)
	text, err := os.ReadFile(file) //nolint:gosec // the test's own
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr)
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&report); err != nil {
		t.Fatal(err)
	}
	return report, code, stderr
}

// TestBench runs all phases on a server in this process.
func TestBench(t *testing.T) {
	srv, broker := startServer(t, devRoutes)
	url, admin := "http://"+srv.Addr().String(), "http://"+srv.AdminAddr().String()
	for _, topic := range []string{"notifications", "notifications.{user}", "announcements,kind=broadcast"} {
		t.Run(topic, func(t *testing.T) {
			r, code, stderr := benchReport(t, benchArgs(url, broker, "--topic="+topic, "--admin="+admin, "--storm=3", "--stalled=5", "--bare")...)
			if code != 0 || r.Problems() != "" || r.Foreign != 0 || len(r.Gaps) != 0 {
				t.Fatalf("exit code %d, %+v\n%s", code, r, stderr)
			}
			streams, storm := 5, 10*3
			if topic == "announcements,kind=broadcast" {
				streams, storm = 50, 3
			}
			if r.Users != 10 || r.Opens <= 0 || r.Live == nil || r.Storm == nil || r.Bare == nil || r.Idle == nil {
				t.Fatalf("%+v", r)
			}
			// 500 records a second for half a second, on a machine that may be slow.
			if n := int(r.Live.Records); n < 10 || n > 251 || r.Live.Events != int64(n*streams) {
				t.Errorf("live: %d events of %d records, want %d for each", r.Live.Events, n, streams)
			}
			if int(r.Storm.Records) != storm || r.Storm.Events != 150 {
				t.Errorf("storm: %d events of %d records, want 150 of %d", r.Storm.Events, r.Storm.Records, storm)
			}
			if l := r.Live.Latency; l.P50 <= 0 || l.P50 > l.P99 || l.P99 > l.Max*1.001 {
				t.Errorf("latency %v", l)
			}
			if d := r.Bare.EventBytes - r.Live.EventBytes; r.Bare.Events == 0 || d < -2 || d > 2 {
				t.Errorf("bare loop: %d events of %.1f bytes, the server's have %.1f", r.Bare.Events, r.Bare.EventBytes, r.Live.EventBytes)
			}
			if r.Counters[`herald_streams_opened_total{start="id"}`] < 50 {
				t.Errorf("counters %v: want 50 streams that resumed", r.Counters)
			}
		})
	}
}

// TestBenchMakesTokens measures a server that wants claims in its tokens.
func TestBenchMakesTokens(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key.pem")
	if err := auth.WriteKeyFiles(file); err != nil {
		t.Fatal(err)
	}
	keys, err := auth.PublicKeys(file + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	srv, broker := startServer(t, devRoutes, func(cfg *server.Config) {
		cfg.InsecureNoAuth, cfg.Keys = false, keys
		cfg.JWTIssuer, cfg.JWTAudience, cfg.JWTUserClaim = "issuer", []string{"herald"}, "uid"
	})
	args := benchArgs("http://"+srv.Addr().String(), broker, "--jwt-key-file="+file, "--jwt-issuer=issuer", "--jwt-audience=herald")
	r, code, stderr := benchReport(t, with(args, "--jwt-user-claim=uid")...)
	if code != 0 || r.Problems() != "" || r.Live == nil || r.Live.Events == 0 {
		t.Errorf("exit code %d, %+v\n%s", code, r, stderr)
	}
	if code, stderr := start(t, args...); code != exitFailed || !strings.Contains(stderr, "401 Unauthorized") {
		t.Errorf("without the user's claim: exit code %d, %q", code, stderr)
	}
}

// meddler is a proxy in front of a server's streams. It passes each event of a record to meddle, which
// decides what to send.
func meddler(t *testing.T, upstream string, meddle func(n int64, e tail.Event, send func(tail.Event))) string {
	t.Helper()
	var n atomic.Int64
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		req, err := http.NewRequestWithContext(r.Context(), http.MethodGet, upstream+r.URL.String(), nil)
		if err != nil {
			t.Error(err)
			return
		}
		req.Header = r.Header
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return
		}
		defer res.Body.Close()
		w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
		send := func(e tail.Event) {
			fmt.Fprintf(w, "id: %s\nevent: %s\ndata: %s\n\n", e.ID, e.Type, e.Data)
			_ = http.NewResponseController(w).Flush()
		}
		for events := tail.NewEventReader(res.Body, ""); ; {
			e, err := events.Next()
			if err != nil {
				return
			}
			if e.Type == "message" {
				meddle(n.Add(1), e, send)
			} else {
				send(e)
			}
		}
	}))
	t.Cleanup(proxy.Close)
	return proxy.URL
}

// TestBenchReportsFaults drops, repeats and swaps events on their way. Each fault must be counted, and
// the exit code must be 1.
func TestBenchReportsFaults(t *testing.T) {
	srv, broker := startServer(t, devRoutes)
	upstream := "http://" + srv.Addr().String()
	var held tail.Event
	// Event 1 comes before the measurement. Events 3 to 5 come even on the slowest machine.
	for name, test := range map[string]struct {
		meddle func(n int64, e tail.Event, send func(tail.Event))
		want   string
	}{
		"lost": {func(n int64, e tail.Event, send func(tail.Event)) {
			if n < 3 || n > 5 {
				send(e)
			}
		}, "3 events lost, 0 twice, 0 out of order"},
		"twice": {func(n int64, e tail.Event, send func(tail.Event)) {
			send(e)
			if n >= 3 && n <= 5 {
				send(e)
			}
		}, "0 events lost, 3 twice, 0 out of order"},
		"swapped": {func(n int64, e tail.Event, send func(tail.Event)) {
			switch n {
			case 3:
				held = e
			case 4:
				send(e)
				send(held)
			default:
				send(e)
			}
		}, "0 events lost, 0 twice, 1 out of order"},
	} {
		t.Run(name, func(t *testing.T) {
			url := meddler(t, upstream, test.meddle)
			// With one stream, event 3 and event 4 belong to one sequence.
			args := benchArgs(url, broker, "--streams=1", "--streams-per-user=1")
			if name == "lost" {
				args = with(args, "--patience=4s") // the command waits that long for the lost events
			}
			r, code, stderr := benchReport(t, args...)
			if code != exitFailed || r.Problems() != test.want || !strings.Contains(stderr, test.want) {
				t.Errorf("exit code %d, %q, %s: want %q", code, r.Problems(), stderr, test.want)
			}
		})
	}
}

// TestBenchInterrupted expects a report of the results so far, without lost events.
func TestBenchInterrupted(t *testing.T) {
	srv, broker := startServer(t, devRoutes)
	file := filepath.Join(t.TempDir(), "report.json")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	go func() {
		defer cancel()
		awaitLiveEvents(ctx, "http://"+srv.AdminAddr().String()+"/metrics")
	}()
	var stderr bytes.Buffer
	code := run(ctx, benchArgs("http://"+srv.Addr().String(), broker, "--duration=1m", "--storm=1", "--json="+file), &stderr)
	text, err := os.ReadFile(file) //nolint:gosec // the test's own
	if err != nil {
		t.Fatalf("%v\n%s", err, &stderr)
	}
	var r bench.Report
	if err := json.Unmarshal(text, &r); err != nil || code != 0 || !r.Interrupted || r.Storm != nil || r.Live == nil || r.Live.Events == 0 {
		t.Errorf("exit code %d, %s\n%s", code, text, &stderr)
	}
}

// awaitLiveEvents waits until the server has sent at least 100 live events. The first record of each user makes only 50.
func awaitLiveEvents(ctx context.Context, metrics string) {
	enough := regexp.MustCompile(`herald_stream_events_total\{source="live"\} \d{3}`)
	for ctx.Err() == nil {
		req, _ := http.NewRequestWithContext(ctx, http.MethodGet, metrics, nil)
		if res, err := http.DefaultClient.Do(req); err == nil {
			text, _ := io.ReadAll(res.Body)
			_ = res.Body.Close()
			if enough.Match(text) {
				return
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// TestBenchMistakes expects one line that says what to do.
func TestBenchMistakes(t *testing.T) {
	srv, broker := startServer(t, devRoutes[:1])
	url := "http://" + srv.Addr().String()
	args := benchArgs(url, broker)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		args []string
		code int
		want string
	}{
		"nothing listens":    {with(args, "--url=http://127.0.0.1:1"), exitFailed, "nothing listens at 127.0.0.1:1: is --url right"},
		"wrong path":         {with(args, "--url="+url+"/nowhere"), exitFailed, "the server says 404 Not Found"},
		"admin port":         {with(args, "--url=http://"+srv.AdminAddr().String()), exitFailed, "404 Not Found: this is the admin listener: /events is on the public one"},
		"public port":        {with(args, "--admin="+url), exitFailed, "/metrics: 404 Not Found: /metrics is on the admin listener"},
		"file limit":         {with(args, "--streams=100000000"), exitUsage, "raise the limit with ulimit -n"},
		"foreign source":     {with(args, "--source-addresses=192.0.2.1"), exitFailed, "--source-addresses"},
		"topic not served":   {with(args, "--topic=other", "--patience=3s"), exitFailed, "does the server serve topic other"},
		"no broker":          {[]string{"bench", "--url=" + url, "--brokers=127.0.0.1:1"}, exitFailed, "no Kafka broker answers at --brokers"},
		"no admin":           {with(args, "--admin=http://127.0.0.1:1"), exitFailed, "--admin: "},
		"small value":        {with(args, "--size=10"), exitUsage, "--size=10: want 96"},
		"no streams":         {with(args, "--streams=0"), exitUsage, "--streams=0: want 1 or more"},
		"self and others":    {with(args, "--self"), exitUsage, "--self starts broker and server itself"},
		"one user's records": {with(args, "--token-file="+file), exitUsage, "--token-file makes all streams one user's"},
		"empty secret":       {with(args, "--jwt-secret-file="+file), exitUsage, "--jwt-secret-file: "},
		"bare without":       {[]string{"bench", "--bare"}, exitUsage, "--bare compares how records are delivered"},
	} {
		t.Run(name, func(t *testing.T) {
			code, stderr := start(t, test.args...)
			if code != test.code || !strings.Contains(stderr, test.want) || strings.Count(stderr, "\n") != 1 {
				t.Errorf("exit code %d, %q, want %d and one line with %q", code, stderr, test.code, test.want)
			}
		})
	}
}

// TestBenchSelf measures a broker and a server that the command starts.
func TestBenchSelf(t *testing.T) {
	r, code, stderr := benchReport(t, "bench", "--self", "--streams=20", "--duration=200ms", "--topic=orders,user=header:owner")
	if code != 0 || r.Live == nil || r.Live.Events == 0 || r.Idle == nil || r.Idle.RSS <= 0 || r.Live.CPUPerEvent < 0 {
		t.Errorf("exit code %d, %+v\n%s", code, r, stderr)
	}
}
