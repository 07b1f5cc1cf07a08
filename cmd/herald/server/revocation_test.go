package server

import (
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"herald/auth"
	"herald/consumer"
)

// revoking is a server with a topic of revocations, on an in-process broker.
type revoking struct {
	*Server
	broker   *kfake.Cluster
	producer *consumer.Producer
	log      logBuffer
	signer   *auth.Signer
}

const revocationTopic = "revocations"

// startRevoking runs a server with a topic of revocations. It calls prepare, which may be nil, before the server
// starts.
func startRevoking(t *testing.T, prepare func(*revoking)) *revoking {
	t.Helper()
	r := new(revoking)
	var err error
	if r.signer, err = auth.NewSecretSigner(testSecret); err != nil {
		t.Fatal(err)
	}
	if r.broker, err = kfake.NewCluster(kfake.NumBrokers(1), kfake.AllowAutoTopicCreation(), kfake.SeedTopics(1, "notifications", "announcements")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.broker.Close)
	r.producer = consumer.NewProducer(r.broker.ListenAddrs(), nil, nil)
	t.Cleanup(r.producer.Close)
	if prepare != nil {
		prepare(r)
	}
	r.Server, _ = startServerWith(t, func(s *Config) {
		s.Consumer.Brokers, s.RevocationTopic = r.broker.ListenAddrs(), revocationTopic
		s.Logger = slog.New(slog.NewTextHandler(&r.log, nil))
		requireTokens(t, s)
	})
	return r
}

func (r *revoking) create(t *testing.T, partitions int32) {
	t.Helper()
	if err := r.broker.CreateTopic(revocationTopic, partitions, nil); err != nil {
		t.Fatal(err)
	}
}

// write writes a record to the topic of revocations.
func (r *revoking) write(t *testing.T, key, value string) {
	t.Helper()
	m := consumer.Message{Topic: revocationTopic, Key: []byte(key), Value: []byte(value)}
	if _, err := r.producer.Produce(t.Context(), m); err != nil {
		t.Fatal(err)
	}
}

// revoke revokes all tokens of a user that were issued a minute ago or before.
func (r *revoking) revoke(t *testing.T, user string) {
	t.Helper()
	r.write(t, auth.RevocationKey(user, ""), time.Now().Add(-time.Minute).Format(time.RFC3339))
}

// taken returns the status of a request with a token of the user, issued an hour ago.
func (r *revoking) taken(t *testing.T, user string) int {
	t.Helper()
	token, err := r.signer.Sign(auth.Identity{User: user, IssuedAt: time.Now().Add(-time.Hour), Expires: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	status, _, _ := request(t, http.MethodPost, "http://"+r.Addr().String()+"/session", bearer(token))
	return status
}

func (r *revoking) admin(t *testing.T, path string) string {
	t.Helper()
	_, _, body := request(t, http.MethodGet, "http://"+r.AdminAddr().String()+path, nil)
	return body
}

// TestRevocationTopicIsMissing starts Herald without its topic of revocations. Herald accepts no token and
// /readyz and the log name the topic. Once the topic exists, its records are applied before Herald accepts a token.
func TestRevocationTopicIsMissing(t *testing.T) {
	r := startRevoking(t, nil)
	await(t, "/readyz names the topic", true, func() bool {
		return strings.Contains(r.admin(t, "/readyz"), "revocations: topic revocations does not exist: create it")
	})
	if got := r.taken(t, "bob"); got != http.StatusServiceUnavailable {
		t.Errorf("a token is answered with %d, want 503", got)
	}
	await(t, "the log says that no token is accepted", true, func() bool {
		return strings.Contains(r.log.String(), `level=WARN msg="no token is accepted until the revocations are read" topic=revocations error="revocations: topic revocations does not exist: create it`)
	})
	r.create(t, 3)
	r.revoke(t, "alice")
	await(t, "herald is ready", "ok\n", func() string { return r.admin(t, "/readyz") })
	await(t, "the log says that the topic is not compacted", true, func() bool {
		return strings.Contains(r.log.String(), `level=WARN msg="revocations will be lost: their topic is not compacted" topic=revocations error="topic revocations has cleanup.policy=delete`)
	})
	await(t, "alice", http.StatusUnauthorized, func() int { return r.taken(t, "alice") }) // Herald may be ready before she is revoked
	if bob := r.taken(t, "bob"); bob != http.StatusOK {
		t.Errorf("bob %d, want 200", bob)
	}
}

// TestRevocationTopicIsCreatedAgain revokes in a topic that begins at offset 0 again. The records of the first
// topic are forgotten, because a replica that starts then does not know them either.
func TestRevocationTopicIsCreatedAgain(t *testing.T) {
	r := startRevoking(t, func(r *revoking) {
		r.create(t, 1)
		for range 3 {
			r.revoke(t, "alice")
		}
		r.write(t, "token:x", time.Now().Format(time.RFC3339))
	})
	await(t, "herald is ready", "ok\n", func() string { return r.admin(t, "/readyz") })
	await(t, "alice", http.StatusUnauthorized, func() int { return r.taken(t, "alice") })
	if err := r.broker.DeleteTopic(revocationTopic); err != nil {
		t.Fatal(err)
	}
	await(t, "/readyz names the topic", true, func() bool {
		return strings.Contains(r.admin(t, "/readyz"), "revocations: topic revocations does not exist")
	})
	if got := r.taken(t, "alice"); got != http.StatusUnauthorized {
		t.Errorf("alice without the topic: %d, want 401", got)
	}
	r.create(t, 1)
	r.revoke(t, "bob")
	await(t, "bob", http.StatusUnauthorized, func() int { return r.taken(t, "bob") })
	await(t, "alice", http.StatusOK, func() int { return r.taken(t, "alice") })
	await(t, "herald is ready", "ok\n", func() string { return r.admin(t, "/readyz") })
	if text := r.admin(t, "/metrics"); !strings.Contains(text, "\nherald_revocations 1\n") {
		t.Errorf("not bob alone is revoked:\n%s", text)
	}
	r.revoke(t, "alice")
	await(t, "alice", http.StatusUnauthorized, func() int { return r.taken(t, "alice") })
}

// TestRevocationsAreReadFirst has the broker refuse reads for a while, during which the topic is created again.
// Herald accepts no token before it has read the new topic.
func TestRevocationsAreReadFirst(t *testing.T) {
	var fault *kfake.FaultHandle
	r := startRevoking(t, func(r *revoking) {
		r.create(t, 1)
		r.revoke(t, "bob")
		fault = r.broker.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Err: kerr.KafkaStorageError, Count: -1})
	})
	await(t, "the topic has begun", true, func() bool { return errors.Is(r.revocations.reader.Ready(), consumer.ErrUnread) })
	if err := r.broker.DeleteTopic(revocationTopic); err != nil {
		t.Fatal(err)
	}
	r.create(t, 1)
	r.revoke(t, "alice")
	for range 50 { // half a second, in which the new topic begins
		if got := r.taken(t, "alice"); got != http.StatusServiceUnavailable {
			t.Fatalf("alice before anything could be read: %d, want 503", got)
		}
		time.Sleep(10 * time.Millisecond)
	}
	fault.Remove()
	got := 0
	await(t, "a token is checked", true, func() bool {
		got = r.taken(t, "alice")
		return got != http.StatusServiceUnavailable
	})
	if got != http.StatusUnauthorized {
		t.Errorf("the first answer but 503 is %d, want 401", got)
	}
}

// TestRevocationTopicIsDenied takes the right to read the topic away while the server runs.
func TestRevocationTopicIsDenied(t *testing.T) {
	r := startRevoking(t, func(r *revoking) { r.create(t, 1) })
	await(t, "herald is ready", "ok\n", func() string { return r.admin(t, "/readyz") })
	denied := r.broker.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Topic: revocationTopic, TopicID: r.broker.TopicInfo(revocationTopic).TopicID, Err: kerr.TopicAuthorizationFailed, Count: -1})
	await(t, "/readyz names the topic", true, func() bool {
		return strings.Contains(r.admin(t, "/readyz"), "revocations: topic revocations may not be read")
	})
	if got := r.taken(t, "alice"); got != http.StatusOK {
		t.Errorf("alice: %d, want 200", got)
	}
	denied.Remove()
	r.revoke(t, "alice")
	await(t, "herald is ready", "ok\n", func() string { return r.admin(t, "/readyz") })
	await(t, "alice", http.StatusUnauthorized, func() int { return r.taken(t, "alice") })
}

// TestRevocationMetrics writes malformed records and a revocation. Each is counted.
func TestRevocationMetrics(t *testing.T) {
	r := startRevoking(t, func(r *revoking) {
		r.create(t, 2)
		r.write(t, "alice", time.Now().Format(time.RFC3339)) // not user:alice
	})
	await(t, "herald is ready", "ok\n", func() string { return r.admin(t, "/readyz") })
	r.write(t, "user:bob", "soon")
	r.revoke(t, "carol")
	await(t, "carol", http.StatusUnauthorized, func() int { return r.taken(t, "carol") })
	for _, line := range []string{
		`herald_revocation_errors_total{reason="invalid"} 2`, `herald_revocation_errors_total{reason="unreadable"} 0`,
		`herald_revocation_errors_total{reason="gap"} 0`, `herald_revocations 1`,
	} {
		await(t, line, true, func() bool { return strings.Contains(r.admin(t, "/metrics"), line+"\n") })
	}
	wantMetricsInOperating(t, r.admin(t, "/metrics"))
}

// TestRevocationTopicOfUsers refuses a topic that users could read or write.
func TestRevocationTopicOfUsers(t *testing.T) {
	for topic, want := range map[string]string{
		"revocations":  "",
		"n.":           "", // of no user: the name would be empty
		"shared":       "shared is read for users by --topic shared",
		"everyone":     "everyone is read for users by --topic everyone",
		"n.revoked":    "n.revoked is read for users by --topic n.{user}",
		"revoked.note": "revoked.note is read for users by --topic {user}.note",
		"a b":          "character ' ' cannot be in a topic name",
	} {
		err := checkRevocationTopic(topic, []consumer.Route{
			{Topic: "shared"}, {Topic: "everyone", Kind: consumer.Broadcast}, {Topic: "n.{user}", Kind: consumer.PerUser}, {Topic: "{user}.note", Kind: consumer.PerUser},
		})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", topic, err, want)
		}
	}
	cfg := testConfig([]string{"127.0.0.1:1"})
	requireTokens(t, &cfg)
	cfg.Consumer.Routes, cfg.RevocationTopic = []consumer.Route{{Topic: "n.{user}", Kind: consumer.PerUser}}, "n.revoked"
	_, err := New(cfg)
	want := "RevocationTopic: n.revoked is read for users by --topic n.{user}: revocations need a topic"
	if mistake, ok := errors.AsType[*ConfigError](err); !ok || !strings.Contains(mistake.Error(), want) {
		t.Errorf("%v, want a ConfigError with %q", err, want)
	}
}
