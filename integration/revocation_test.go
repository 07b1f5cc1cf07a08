package integration

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestRevokedTokensEndStreams revokes tokens while their streams are open on two replicas. These streams must end on
// both replicas, and other streams must continue. Herald must refuse the tokens from then on, after a restart too.
func TestRevokedTokensEndStreams(t *testing.T) {
	b := sharedBroker(t)
	topic := b.newTopic(t, "shared", 1)
	revocations := b.newTopic(t, "revocations", 2, "cleanup.policy", "compact")
	secret := newSecretFile(t)
	token := func(user, id string) string {
		return newToken(t, "--jwt-secret-file="+secret, "--user="+user, "--id="+id)
	}
	var replicas [2]*herald
	for i := range replicas {
		replicas[i] = newProcess(t, "serve", "--jwt-secret-file="+secret, "--brokers="+strings.Join(b.addresses, ","), "--group="+topicName(t, "group"),
			fmt.Sprint("--replica=", i), "--topic="+topic, "--revocation-topic="+revocations)
		replicas[i].Start()
	}
	open := func(h *herald, token string) *eventSource {
		s := newStream(t, h.public, "")
		s.url, s.Token = "http://"+h.public+"/events", token
		s.Connect()
		s.Checkpoint()
		return s
	}
	revoke := func(args ...string) {
		t.Helper()
		out, complaints, err := runHerald(t, append([]string{"revoke", "--brokers=" + b.addresses[0], "--topic=" + revocations}, args...)...)
		if err != nil {
			t.Fatalf("herald revoke %q: %v\n%s%s", args, err, out, complaints)
		}
	}
	alice, bobs, bobsOther := token("alice", "a"), token("bob", "b1"), token("bob", "b2")
	var ending, staying []*eventSource
	for _, h := range replicas {
		ending = append(ending, open(h, alice), open(h, bobs))
		staying = append(staying, open(h, bobsOther))
	}
	begun := time.Now()
	revoke("--user=alice")
	alicesNext := token("alice", "later") // within the leeway of 30 s
	revoke("--token-id=b1")
	revoke("--user=carol", "--before="+time.Now().Add(-32*time.Second).UTC().Format(time.RFC3339)) // the leeway is 30 s
	for _, s := range ending {
		events := s.AwaitEnd()
		if len(events) == 0 || events[len(events)-1].Data != `{"reason":"revoked"}` {
			t.Errorf("the stream ended with %+v", events)
		}
	}
	t.Logf("%d streams on two replicas ended %v after the first revocation was begun", len(ending), time.Since(begun).Round(time.Millisecond))
	refused := func(token string) bool {
		s := newStream(t, replicas[1].public, "")
		s.url, s.Token = "http://"+replicas[1].public+"/events", token
		err := s.connect()
		if err != nil && !strings.Contains(err.Error(), "401") {
			t.Error(err)
		}
		return err != nil
	}
	check := func() {
		t.Helper()
		// Carol's revocation has an older time than her token.
		for text, want := range map[string]bool{alice: true, bobs: true, bobsOther: false, alicesNext: true, token("carol", "later"): false} {
			if got := refused(text); got != want {
				t.Errorf("a token is refused: %t, want %t", got, want)
			}
		}
	}
	check()
	b.produce(t, record(topic, "bob", "still"))
	for _, s := range staying {
		if e := s.Record(); e.Data != "still" {
			t.Errorf("got %+v", e)
		}
	}
	replicas[1].Kill()
	replicas[1].Start()
	check()
	revoke("--token-id=b1", "--undo")
	waitFor(t, "the withdrawn revocation has no effect", func(_ context.Context) bool { return !refused(bobs) })
}
