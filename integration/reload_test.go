package integration

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// reload sends SIGHUP and waits for the line in the log.
func (h *herald) reload(line string) {
	h.t.Helper()
	before := strings.Count(h.printed.String(), line)
	if err := h.command.Process.Signal(syscall.SIGHUP); err != nil {
		h.t.Fatal(err)
	}
	waitFor(h.t, "the log has "+line, func(context.Context) bool { return strings.Count(h.printed.String(), line) > before })
}

// TestHangup sends SIGHUP while a stream is open: after the secret of tokens and settings in the file of --config have
// changed, after the file has become wrong, and several times at once. The stream stays open, and SIGTERM still stops
// herald.
func TestHangup(t *testing.T) {
	b := sharedBroker(t)
	topic := b.newTopic(t, "shared", 1)
	dir := t.TempDir()
	secret, config := filepath.Join(dir, "secret"), filepath.Join(dir, "config.yaml")
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	texts, tokens := []string{strings.Repeat("a", 32), strings.Repeat("b", 32)}, make([]string, 2)
	for i := len(texts) - 1; i >= 0; i-- { // the first secret stays in the file
		write(secret, texts[i])
		tokens[i] = newToken(t, "--jwt-secret-file="+secret, "--user=alice")
	}
	write(config, "jwt-secret-file: "+secret+"\n")
	h := newProcess(t, "serve", "--brokers="+strings.Join(b.addresses, ","), "--topic="+topic, "--group="+topicName(t, "group"), "--replica=test", "--config="+config)
	h.Start()
	check := func(when string, want ...int) {
		t.Helper()
		for i, token := range tokens {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodHead, "http://"+h.public+"/events", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer "+token)
			req.Header.Set("Origin", "https://app.example")
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = res.Body.Close()
			if res.StatusCode != want[i] {
				t.Errorf("%s: token %d gets %s, want %d", when, i, res.Status, want[i])
			}
			if allowed := res.Header.Get("Access-Control-Allow-Origin") != ""; allowed != (when != "at the start") {
				t.Errorf("%s: the page's origin is allowed: %v", when, allowed)
			}
		}
	}
	check("at the start", http.StatusOK, http.StatusUnauthorized)
	alice := newStream(t, h.public, "")
	alice.url, alice.Token = "http://"+h.public+"/events", tokens[0]
	alice.Reconnect()
	write(secret, texts[1])
	write(config, "jwt-secret-file: "+secret+"\nallow-origin: https://app.example\nmax-streams-per-user: 1\nlog-level: debug\nheartbeat: 20s\n")
	h.reload(`msg="changed settings need a restart" settings=[--heartbeat]`)
	if got, want := h.printed.String(), `msg="settings reloaded" changed="[--allow-origin --jwt-secret-file --log-level --max-streams-per-user]"`; !strings.Contains(got, want) {
		t.Errorf("the log lacks %s", want)
	}
	check("after the change", http.StatusUnauthorized, http.StatusOK)
	write(secret, "short")
	h.reload(`level=ERROR msg="settings not reloaded; the previous ones stay in use" error="--jwt-secret-file: `)
	if h.Metric("herald_config_last_reload_successful") != 0 {
		t.Error("a failed reload counts as successful")
	}
	check("after a mistake", http.StatusUnauthorized, http.StatusOK)
	write(secret, texts[1])
	for range 20 {
		_ = h.command.Process.Signal(syscall.SIGHUP)
	}
	h.reload(`msg="settings read again; none to apply"`)
	if h.Metric("herald_config_last_reload_successful") != 1 {
		t.Error("a reload after a failed one does not count as successful")
	}
	check("after many", http.StatusUnauthorized, http.StatusOK)
	b.produce(t, record(topic, "alice", "still there"))
	if got := alice.Record().Data; got != "still there" {
		t.Errorf("got %q", got)
	}
	h.Stop()
	checkDrained(t, alice)
}
