package integration

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// TestAdvertisedListenerThatDoesNotWork runs the commands that talk to Kafka with a broker whose advertised.listeners
// are wrong: one listener advertises an address at which nothing listens, one a listener without TLS, and one a
// listener that wants SASL. Each command must name the address that it dialled, who advertises it, and the cause.
func TestAdvertisedListenerThatDoesNotWork(t *testing.T) {
	sharedBroker(t) // skips without Docker
	dead := freeAddress(t)
	b := &secureBroker{advertise: func(plain, sasl, _ string) [3]string { return [3]string{dead, plain, sasl} }}
	t.Cleanup(func() {
		if err := b.remove(); err != nil {
			t.Error(err)
		}
	})
	if err := b.open(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := runHerald(t, "produce", "--brokers="+b.addresses[0], "--topic=notifications", "--user=alice", "creates the topic"); err == nil {
		t.Fatal("a record was written through a listener that advertises a dead address")
	}
	good := startHerald(t, sharedBroker(t), "--topic="+topicName(t, "t")) // for herald bench
	for name, test := range map[string]struct {
		address, advertised string
		flags               []string
		want                string
	}{
		"nothing listens": {b.addresses[0], dead, nil, "connect: connection refused"},
		"no TLS there":    {b.sasl, b.addresses[0], b.saslFlags("plain", "plain", "plain"), "The listener of --brokers accepts these flags: correct the broker's advertised.listeners"},
		"SASL there":      {b.mutual, b.sasl, b.mutualFlags(), "The listener of --brokers accepts these flags: correct the broker's advertised.listeners"},
	} {
		t.Run(name, func(t *testing.T) {
			from := fmt.Sprintf("broker 1, advertised as %s by %s (advertised.listeners): ", test.advertised, test.address)
			check := func(name, text, want string) {
				t.Helper()
				t.Logf("%s: %s", name, text)
				if !strings.Contains(text, from) || !strings.Contains(text, want) {
					t.Errorf("%s says %q, want %q and %q", name, text, from, want)
				}
			}
			flags := append([]string{"--brokers=" + test.address}, test.flags...)
			for command, args := range map[string][]string{
				"produce": {"produce", "--topic=notifications", "--user=alice", "x"},
				"revoke":  {"revoke", "--topic=notifications", "--user=alice"},
				"bench":   {"bench", "--topic=notifications", "--patience=5s", "--url=http://" + good.public},
			} {
				_, complaints, err := runHerald(t, append(args, flags...)...)
				want := test.want
				if command == "bench" && test.flags != nil {
					want = "" // its client has its own words
				}
				if check(command, complaints, want); err == nil {
					t.Errorf("herald %s succeeds", command)
				}
			}
			h := newHerald(t, b.at(test.address), append(test.flags, "--topic=notifications")...)
			h.Launch()
			h.WaitNotReady()
			h.wantLine(`level=WARN msg="broker cannot be read; retrying" broker=1 .*`)
			check("the log", h.printed.String(), test.want)
			waitFor(t, "/readyz has the reason", func(context.Context) bool {
				return strings.Contains(mustSend(t, http.MethodGet, "http://"+h.admin+"/readyz", "").body, from)
			})
			check("/readyz", mustSend(t, http.MethodGet, "http://"+h.admin+"/readyz", "").body, test.want)
		})
	}
}
