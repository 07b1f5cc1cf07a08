package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// testConfig measures the server at url with few streams and without records.
func testConfig(url string) Config {
	return Config{URL: url, Streams: 20, PerUser: 1, OpenAtOnce: 5, Size: MinSize, Duration: time.Second, Patience: 30 * time.Second}
}

// TestNetworks reads the events of the bare loop through both networks. Each event must be counted once
// and none may be lost.
func TestNetworks(t *testing.T) {
	for _, goroutines := range []bool{false, true} {
		t.Run(fmt.Sprintf("goroutines=%v", goroutines), func(t *testing.T) {
			in, orders := io.Pipe()
			results, out := io.Pipe()
			served := make(chan error, 1)
			go func() { served <- ServeBare(in, out) }()
			answers, told := json.NewDecoder(results), json.NewEncoder(orders)
			var answer bareResult
			if err := answers.Decode(&answer); err != nil {
				t.Fatal(err)
			}
			cfg := testConfig("http://" + answer.Address + "/events")
			cfg.goroutines = goroutines
			r, err := newRun(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer r.close()
			r.interrupted = t.Context()
			order := bareOrder{Run: r.id, Streams: cfg.Streams, Size: cfg.Size, Frame: 150, Seconds: 0.1}
			if err := told.Encode(order); err != nil {
				t.Fatal(err)
			}
			if _, err := r.openAll(&server{}); err != nil {
				t.Fatal(err)
			}
			if err := told.Encode(order); err != nil {
				t.Fatal(err)
			}
			if err := answers.Decode(&answer); err != nil {
				t.Fatal(err)
			}
			if err := r.waitFor(t.Context(), "", r.unique, answer.Events); err != nil {
				t.Fatal(err)
			}
			for i := range r.sent {
				r.sent[i] = uint64(answer.Events) / uint64(cfg.Streams)
			}
			got := r.takeResults()
			if got.events != answer.Events || got.events == 0 || got.duplicates+got.outOfOrder != 0 || r.lost() != 0 {
				t.Errorf("%d of %d events, %d twice, %d out of order, %d lost", got.events, answer.Events, got.duplicates, got.outOfOrder, r.lost())
			}
			if l := latencyOf(&got); l.P50 <= 0 || l.P50 > l.P99 || l.P99 > l.P999 || l.P999 > l.Max*1.001 || l.Max > 60 {
				t.Errorf("latency %v", l)
			}
			_ = orders.Close()
			if err := <-served; err != nil {
				t.Error(err)
			}
		})
	}
}

// TestOpensAgain runs a server that ends each stream once, with a reason. The tool must count the reason
// and open the stream again from its last id, after the reconnection time that the server sets.
func TestOpensAgain(t *testing.T) {
	var first, resumed atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
		id := r.Header.Get("Last-Event-ID")
		if id == "" {
			first.Add(1)
			id = "of-" + r.URL.Query().Get("user")
			fmt.Fprintf(w, "retry: 10\n\nid: %s\nevent: gap\ndata: {\"reason\":\"retention\"}\n\nevent: end\ndata: {\"reason\":\"draining\"}\n\n", id) //nolint:gosec // of a stream, which no browser shows
			return
		}
		if id == "of-"+r.URL.Query().Get("user") {
			resumed.Add(1)
		}
		fmt.Fprint(w, "event: checkpoint\ndata: {}\n\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}))
	defer server.Close()
	for _, goroutines := range []bool{false, true} {
		cfg := testConfig(server.URL)
		cfg.goroutines = goroutines
		first.Store(0)
		resumed.Store(0)
		report, err := Run(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		if first.Load() != 20 || resumed.Load() != 20 || report.Ends["draining"] != 20 || report.Gaps["retention"] != 20 {
			t.Errorf("%d opened, %d resumed from their id; ends %v, gaps %v", first.Load(), resumed.Load(), report.Ends, report.Gaps)
		}
	}
}

// TestNoStream expects an error that names the problem, at once or after the patience.
func TestNoStream(t *testing.T) {
	for name, test := range map[string]struct {
		serve http.HandlerFunc
		want  string
	}{
		"refused": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, `{"error":{"message":"because"}}`)
		}, "the server says 403 Forbidden: because"},
		"no checkpoint": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}, "the first stream does not begin: 0 of 1, and none for 1s: is the server ready? Its /readyz"},
		"not ready": {func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/metrics":
			case "/readyz":
				http.Error(w, "topic t is not read yet", http.StatusServiceUnavailable)
			default:
				w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
				_ = http.NewResponseController(w).Flush()
				<-r.Context().Done()
			}
		}, "none for 1s: the server is not ready: topic t is not read yet"},
		"too many": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
			fmt.Fprint(w, "retry: 10\n\nevent: checkpoint\ndata: {}\n\nevent: end\ndata: {\"reason\":\"too-many-streams\"}\n\n")
		}, "lower --streams-per-user"},
		"cut": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "times: the server ended a stream: cut"},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(test.serve)
			defer server.Close()
			cfg := testConfig(server.URL)
			cfg.Patience = 10 * time.Second
			switch name {
			case "no checkpoint", "not ready": // these last as long as the patience
				cfg.Patience = time.Second
			case "cut": // likewise, and the tool must connect again meanwhile
				cfg.Patience = 2 * time.Second
			}
			if name == "not ready" {
				cfg.Admin = server.URL
			}
			_, err := Run(t.Context(), cfg)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
}

// TestInterruptedWhileOpening interrupts a measurement whose server never begins a stream.
func TestInterruptedWhileOpening(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer server.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	report, err := Run(ctx, testConfig(server.URL))
	if err != nil || !report.Interrupted {
		t.Errorf("%+v, %v: want a report that says so", report, err)
	}
}

func TestMetrics(t *testing.T) {
	const text = `# HELP herald_streams Streams and polls that are open.
# TYPE herald_streams gauge
herald_streams 3
herald_kafka_read_bytes_total{use="replay"} 1.5e+06
herald_kafka_fetch_duration_seconds_bucket{le="0.1"} 7
process_cpu_seconds_total 1.25
process_resident_memory_bytes 1.048576e+06
go_goroutines 9
`
	var got sample
	got.counters = map[string]float64{}
	if err := parseMetrics(strings.NewReader(text), &got); err != nil {
		t.Fatal(err)
	}
	if got.cpu != 1.25 || got.memory != 1<<20 || len(got.counters) != 2 || got.counters[`herald_kafka_read_bytes_total{use="replay"}`] != 1.5e6 {
		t.Errorf("%+v", got)
	}
}
