package integration

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

// Passwords are long and unlike anything else, so that a log can be searched for them.
const (
	plainPassword    = "plain-pass-7Kq2" //nolint:gosec // of a broker that lives as long as the test
	scram256Password = "s256-pass-x91Lw" //nolint:gosec // as above
	scram512Password = "s512-pass-M0z4e" //nolint:gosec // as above
	wrongPassword    = "wrong-pass-bb3Y"
	clientSecret     = "client-pass-Q7vd" //nolint:gosec // as above
)

// checkNoSecret fails the test if the log has a secret.
func checkNoSecret(t *testing.T, h *herald) {
	t.Helper()
	for _, secret := range []string{plainPassword, scram256Password, scram512Password, wrongPassword, clientSecret, "PRIVATE KEY", "eyJ"} {
		if strings.Contains(h.printed.String(), secret) {
			t.Errorf("the log has the secret %q", secret)
		}
	}
}

// TestSecureListeners serves from brokers that want TLS and each SASL mechanism or a certificate.
func TestSecureListeners(t *testing.T) {
	b := sharedSecureBroker(t)
	for name, test := range map[string]struct {
		address string
		flags   []string
	}{
		"PLAIN":         {b.sasl, b.saslFlags("plain", "plain", "plain")},
		"SCRAM-SHA-256": {b.sasl, b.saslFlags("scram-sha-256", "scram256", "scram256")},
		"SCRAM-SHA-512": {b.sasl, append(b.saslFlags("scram-sha-512", "scram512", "scram512"), "--kafka-server-name=localhost")},
		"certificate":   {b.mutual, b.mutualFlags()},
		"OAUTHBEARER":   {b.short, b.clientFlags(b.issuer.serve(t, 8*time.Second))},
		"token in file": {b.short, b.tokenFlags(t, "kafka", time.Hour)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // each waits for a commit
			topic := b.newTopic(t, "shared", 1)
			h := startHerald(t, b.at(test.address), append(test.flags, "--topic="+topic, "--enable-publish", "--log-level=debug")...)
			alice := openStream(t, h, "alice")
			b.produce(t, record(topic, "alice", "hello"))
			if got := alice.Record().Data; got != "hello" {
				t.Errorf("got %q, want hello", got)
			}
			publishTo(t, h, "/users/alice/notifications", "posted", topic)
			if got := alice.Record().Data; got != "posted" {
				t.Errorf("got %q, want what was posted", got)
			}
			waitFor(t, "an offset is committed", func(context.Context) bool { return h.Metric(`herald_kafka_commits_total{result="ok"}`) > 0 })
			checkNoSecret(t, h)
		})
	}
}

// TestOperatorMistakesAreNamed starts herald with the mistakes that operators make. Herald must keep trying, and the log
// and /readyz must name the cause in one line: the broker's answer if the broker answered, and never the
// connection that was closed after the answer.
func TestOperatorMistakesAreNamed(t *testing.T) {
	b := sharedSecureBroker(t)
	topic := b.newTopic(t, "shared", 1)
	ca := func(name string) string { return "--kafka-ca-file=" + filepath.Join(b.files, name) }
	for name, test := range map[string]struct {
		address string
		flags   []string
		want    string
	}{
		"wrong password, PLAIN":         {b.sasl, b.saslFlags("plain", "plain", "wrong"), "Invalid username or password (see --kafka-sasl-user"},
		"unknown user, PLAIN":           {b.sasl, b.saslFlags("plain", "nobody", "plain"), "Invalid username or password (see --kafka-sasl-user"},
		"wrong password, SCRAM-SHA-256": {b.sasl, b.saslFlags("scram-sha-256", "scram256", "wrong"), "invalid credentials with SASL mechanism SCRAM-SHA-256 (see --kafka-sasl-user"},
		"wrong password, SCRAM-SHA-512": {b.sasl, b.saslFlags("scram-sha-512", "scram512", "wrong"), "invalid credentials with SASL mechanism SCRAM-SHA-512 (see --kafka-sasl-user"},
		"user of another mechanism":     {b.sasl, b.saslFlags("scram-sha-512", "scram256", "scram256"), "invalid credentials with SASL mechanism SCRAM-SHA-512 (see --kafka-sasl-user"},
		"a mechanism of no broker":      {b.sasl, append(b.saslFlags("oauthbearer", "", "")[:3], "--kafka-oauth-token-file="+filepath.Join(b.files, "plain")), "the broker has no SASL mechanism OAUTHBEARER, it has PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 (use --kafka-sasl-mechanism=plain or --kafka-sasl-mechanism=scram-sha-256 or"},
		"token for others":              {b.short, b.tokenFlags(t, "others", time.Hour), "invalid_token (see --kafka-oauth-token-file, and whether the broker accepts the token's issuer and audience)"},
		"expired token":                 {b.short, b.tokenFlags(t, "kafka", -time.Minute), "invalid_token (see --kafka-oauth-token-file: the token expired at "},
		"wrong secret of the client":    {b.short, append(b.clientFlags(b.issuer.serve(t, time.Minute)), "--kafka-oauth-client-secret-file="+filepath.Join(b.files, "wrong")), "--kafka-oauth-token-url: status 401: invalid_client: wrong secret"},
		"no token endpoint":             {b.short, b.clientFlags("http://127.0.0.1:1/token"), "--kafka-oauth-token-url: dial tcp 127.0.0.1:1: connect: connection refused"},
		"no user":                       {b.sasl, []string{"--kafka-tls", ca("ca.pem")}, "add --kafka-sasl-mechanism"},
		"unknown authority":             {b.mutual, []string{"--kafka-tls", ca("other-ca.pem")}, "unknown authority"},
		"authorities of the system":     {b.mutual, []string{"--kafka-tls"}, "--kafka-ca-file"},
		"wrong server name":             {b.mutual, append(b.mutualFlags(), "--kafka-server-name=other.example"), "not other.example"},
		"no certificate":                {b.mutual, []string{"--kafka-tls", ca("ca.pem")}, "certificate required (the listener wants a client's certificate: add --kafka-cert-file"},
		"plain text to TLS":             {b.mutual, nil, "Add --kafka-tls"},
		"plain text to TLS and SASL":    {b.sasl, nil, "Add --kafka-tls"},
		"TLS to plain text":             {b.addresses[0], []string{"--kafka-tls", ca("ca.pem")}, "eave --kafka-tls out"},
		"SASL to a listener without":    {b.mutual, append(b.mutualFlags(), b.saslFlags("plain", "plain", "plain")[2:]...), "leave --kafka-sasl-mechanism out"},
	} {
		t.Run(name, func(t *testing.T) {
			var h *herald
			var ready string
			var warnings []string
			for range 3 { // an attempt ends after seconds, which a broker on a busy machine may need
				h = newHerald(t, b.at(test.address), append(test.flags, "--topic="+topic)...)
				ready, warnings = h.complaints()
				if text := ready + strings.Join(warnings, ""); !strings.Contains(text, "deadline exceeded") && !strings.Contains(text, "timeout") {
					break
				}
				h.Kill()
			}
			if !strings.Contains(ready, test.want) {
				t.Errorf("/readyz says %q, which does not name the cause: %q", ready, test.want)
			}
			if len(warnings) != 1 || !strings.Contains(warnings[0], test.want) {
				t.Errorf("the log says %q, want one line that names the cause: %q", warnings, test.want)
			}
			if authenticated := strings.Contains(test.want, "--kafka-sasl-user"); authenticated {
				for _, other := range []string{"EOF", "connection closed"} {
					if strings.Contains(ready+strings.Join(warnings, ""), other) {
						t.Errorf("/readyz says %q, the log %q: %s is not the cause", ready, warnings, other)
					}
				}
			}
			checkNoSecret(t, h)
		})
	}
}

// complaints starts the process, which cannot log in, and returns the body of /readyz and the warnings in the log after two
// attempts.
func (h *herald) complaints() (ready string, warnings []string) {
	h.t.Helper()
	h.Launch()
	h.WaitNotReady()
	waitFor(h.t, "two attempts", func(context.Context) bool { return h.Metric(`herald_kafka_errors_total{kind="contact"}`) >= 2 })
	ready = mustSend(h.t, http.MethodGet, "http://"+h.admin+"/readyz", "").body
	h.t.Logf("readyz: %s\nlog: %s", ready, h.printed.String())
	for line := range strings.Lines(h.printed.String()) {
		if strings.Contains(line, "level=WARN") || strings.Contains(line, "level=ERROR") {
			warnings = append(warnings, line)
		}
	}
	return ready, warnings
}

// TestTokenEndpointGoesAway takes the token endpoint away under a stream. Records come while the token is good. Then the
// log names the endpoint, the stream stays open, and the records come once the endpoint is back.
func TestTokenEndpointGoesAway(t *testing.T) {
	t.Parallel() // it waits for the end of a token
	b := sharedSecureBroker(t)
	issuer := &issuer{key: b.issuer.key} // other tests use b's
	topic := b.newTopic(t, "shared", 1)
	h := startHerald(t, b.at(b.short), append(b.clientFlags(issuer.serve(t, 20*time.Second)), "--topic="+topic)...)
	alice := openStream(t, h, "alice")
	receive := func(value string) {
		t.Helper()
		b.produce(t, record(topic, "alice", value))
		if got := alice.Record().Data; got != value {
			t.Errorf("got %q, want %s", got, value)
		}
	}
	receive("before")
	issuer.down.Store(true)
	for n := range 4 {
		receive(fmt.Sprint("while the token is good ", n))
		time.Sleep(500 * time.Millisecond)
	}
	waitFor(t, "the log names the endpoint", func(context.Context) bool {
		return strings.Contains(h.printed.String(), "log in by OAUTHBEARER: --kafka-oauth-token-url: status 503")
	})
	b.produce(t, record(topic, "alice", "while it is away"))
	issuer.down.Store(false)
	if got := alice.Record().Data; got != "while it is away" {
		t.Errorf("got %q, want the record from the time without a token", got)
	}
	receive("after")
	checkNoSecret(t, h)
}

// TestTopicDenied removes the right to read a topic for a while, with and without the right to describe it.
func TestTopicDenied(t *testing.T) {
	for name, allowed := range map[string][]kadm.ACLOperation{"read": {kadm.OpDescribe}, "all": nil} {
		t.Run(name, func(t *testing.T) {
			b := sharedSecureBroker(t)
			denied, other := b.newTopic(t, "denied", 2), b.newTopic(t, "other", 1)
			h := startHerald(t, b.at(b.sasl), append(b.saslFlags("scram-sha-256", "scram256", "scram256"), "--topic="+denied, "--topic="+other)...)
			alice := openStream(t, h, "alice")
			b.produce(t, record(denied, "alice", "allowed"))
			if got := alice.Record().Data; got != "allowed" {
				t.Errorf("got %q, want the record of the topic that is allowed", got)
			}
			rule := func() *kadm.ACLBuilder {
				return kadm.NewACLs().Topics(denied).ResourcePatternType(kadm.ACLPatternLiteral)
			}
			rules := []*kadm.ACLBuilder{rule().Operations(kadm.OpRead).Deny("User:scram256").DenyHosts("*")}
			if allowed != nil { // a topic with one rule denies what no rule allows
				rules = append(rules, rule().Operations(allowed...).Allow("User:scram256").AllowHosts("*"))
			}
			for _, r := range slices.Backward(rules) {
				if made, err := b.admin.CreateACLs(t.Context(), r); err != nil || made[0].Err != nil {
					t.Fatalf("create ACL: %v, %+v", err, made)
				}
			}
			waitFor(t, "the denial is counted", func(context.Context) bool { return h.Metric(`herald_kafka_errors_total{kind="denied"}`) > 0 })
			// A fetch that was allowed may still wait for records, of the other topic too.
			b.produce(t, record(other, "alice", "ends that fetch"))
			alice.Values(1)
			b.produce(t, record(denied, "alice", "while denied"), record(other, "alice", "other"))
			if got := alice.Record().Data; got != "other" {
				t.Errorf("got %q, want the record of the other topic", got)
			}
			var lines []string
			for line := range strings.Lines(h.printed.String()) {
				if strings.Contains(line, "level=ERROR") {
					lines = append(lines, line)
				}
			}
			if len(lines) != 1 || !strings.Contains(lines[0], denied) {
				t.Errorf("the log has these errors, want one that names the topic:\n%s", strings.Join(lines, ""))
			}
			for _, r := range rules {
				if gone, err := b.admin.DeleteACLs(t.Context(), r); err != nil || len(gone) != 1 || len(gone[0].Deleted) != 1 {
					t.Fatalf("delete ACL: %v, %+v", err, gone)
				}
			}
			if got := alice.Record().Data; got != "while denied" {
				t.Errorf("got %q, want the record that was written while the topic was denied", got)
			}
		})
	}
}
