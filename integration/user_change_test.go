package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestUserOfKafkaChanges reloads another user at a listener where log-ins end. A broker lets no connection change its
// user. The streams stay open, and no record is lost or repeated.
func TestUserOfKafkaChanges(t *testing.T) {
	b := sharedSecureBroker(t)
	topic := b.newTopic(t, "shared", 1)
	config := filepath.Join(t.TempDir(), "config.yaml")
	use := func(user string) {
		t.Helper()
		if err := os.WriteFile(config, []byte("kafka-sasl-user: "+user+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	use("plain")
	flags := slices.DeleteFunc(b.saslFlags("plain", "", "plain"), func(flag string) bool {
		return strings.HasPrefix(flag, "--kafka-sasl-user=") // the file has the user
	})
	h := startHerald(t, b.at(b.short), append(flags, "--topic="+topic, "--config="+config, "--log-level=debug")...)
	alice := openStream(t, h, "alice")
	n := 0
	send := func(until func() bool) {
		t.Helper()
		for deadline := time.Now().Add(2 * patience); !until(); n++ {
			if time.Now().After(deadline) {
				t.Fatal("the connections keep the user")
			}
			b.produce(t, record(topic, "alice", fmt.Sprint(n)))
			if got := alice.Record().Data; got != fmt.Sprint(n) {
				t.Fatalf("got %s, want number %d", got, n)
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
	renewed := func() float64 { return h.Metric(`herald_kafka_reauthentications_total{result="ok"}`) }
	send(func() bool { return renewed() > 2 })
	use("plain2")
	h.reload("settings reloaded")
	send(func() bool { return h.Metric(`herald_kafka_reauthentications_total{result="error"}`) > 0 })
	before := renewed()
	send(func() bool { return renewed() > before+1 }) // on connections of the new user, or of another one that is refused later
	// Herald logs the refusal at level debug if it has warned of the same broker shortly before.
	h.wantLine(`level=WARN msg="broker cannot be read`)
	h.wantLine("Cannot change principals during re-authentication")
}
