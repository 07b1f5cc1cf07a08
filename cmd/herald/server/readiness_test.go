package server

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"herald/consumer"
)

// readyz asks for /readyz, with the query, as text.
func readyz(t *testing.T, s *Server, query string) (int, string) {
	t.Helper()
	return call(t, http.MethodGet, "http://"+s.AdminAddr().String()+"/readyz"+query, "")
}

// conditionsOf asks for /readyz as JSON. The reasons are cut off at their first colon.
func conditionsOf(t *testing.T, s *Server, query string) (int, readiness) {
	t.Helper()
	status, header, body := request(t, http.MethodGet, "http://"+s.AdminAddr().String()+"/readyz"+query, headers("Accept", "application/json"))
	var got readiness
	if err := json.Unmarshal([]byte(body), &got); err != nil || header.Get("Content-Type") != "application/json" {
		t.Fatalf("/readyz%s: %v %v %s", query, err, header, body)
	}
	for i := range got.Conditions {
		got.Conditions[i].Reason, _, _ = strings.Cut(got.Conditions[i].Reason, ":")
	}
	return status, got
}

// refuseAll returns a switch. While it is on, the broker closes each connection that sends a request.
func refuseAll(broker *kfake.Cluster) *atomic.Bool {
	on := new(atomic.Bool)
	broker.Control(func(kmsg.Request) (kmsg.Response, error, bool) {
		broker.KeepControl()
		return nil, errors.New("hang up"), on.Load()
	})
	return on
}

// TestReadyOnce makes the broker of a ready server refuse everything. /readyz stays 200 and says what is wrong, /readyz?strict is
// 503, and both list the conditions in JSON. Once the server stops, both are 503.
func TestReadyOnce(t *testing.T) {
	srv, broker := startServerWith(t, func(*Config) {})
	for _, query := range []string{"", "?strict", "?strict=1"} {
		if status, body := readyz(t, srv, query); status != http.StatusOK || body != "ok\n" {
			t.Errorf("/readyz%s: %d %q, want 200 ok", query, status, body)
		}
	}
	if status, body := readyz(t, srv, "?strikt"); status != http.StatusBadRequest || !strings.Contains(body, "takes strict") {
		t.Errorf("/readyz?strikt: %d %q, want 400", status, body)
	}
	hangUp := refuseAll(broker)
	hangUp.Store(true)
	await(t, "kafka is missed", http.StatusServiceUnavailable, func() int { status, _ := readyz(t, srv, "?strict"); return status })
	if status, body := readyz(t, srv, ""); status != http.StatusOK || !strings.HasPrefix(body, "ok, but kafka does not answer: ") {
		t.Errorf("/readyz without kafka: %d %q, want 200 and what is wrong", status, body)
	}
	want := []conditionAnswer{{"running", true, ""}, {"kafka", false, "kafka does not answer"}, {"topics", true, ""}}
	for query, ready := range map[string]bool{"": true, "?strict": false} {
		status, got := conditionsOf(t, srv, query)
		if diff := cmp.Diff(readiness{ready, want}, got); diff != "" || (status == http.StatusOK) != ready {
			t.Errorf("/readyz%s without kafka: %d (-want +got)\n%s", query, status, diff)
		}
	}
	_, text := call(t, http.MethodGet, "http://"+srv.AdminAddr().String()+"/metrics", "")
	for _, line := range []string{`herald_condition_ok{condition="kafka"} 0`, `herald_condition_ok{condition="topics"} 1`} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("no metric %s", line)
		}
	}
	srv.draining.Store(true)
	hangUp.Store(false)
	for _, query := range []string{"", "?strict"} {
		if status, body := readyz(t, srv, query); status != http.StatusServiceUnavailable || body != "herald is stopping\n" {
			t.Errorf("/readyz%s of a server that stops: %d %q, want 503", query, status, body)
		}
	}
}

// TestReadyFirst starts a server whose broker does not answer. It is not ready until the broker answers, also if all
// topics belong to users.
func TestReadyFirst(t *testing.T) {
	broker := newBroker(t)
	hangUp := refuseAll(broker)
	hangUp.Store(true)
	srv := newServer(t, broker, func(cfg *Config) {
		cfg.Consumer.Routes = []consumer.Route{{Topic: "notifications.{user}", Kind: consumer.PerUser}}
	})
	if err := srv.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = srv.Stop() })
	await(t, "the first request has failed", true, func() bool { return srv.consumer.Contact() != nil })
	if status, body := readyz(t, srv, ""); status != http.StatusServiceUnavailable || !strings.Contains(body, "kafka does not answer") {
		t.Errorf("/readyz before the first answer: %d %q, want 503", status, body)
	}
	hangUp.Store(false)
	await(t, "herald is ready", "ok\n", func() string { _, body := readyz(t, srv, ""); return body })
}
