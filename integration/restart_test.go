package integration

import (
	"fmt"
	"net/http"
	"testing"
	"time"
)

// TestHeraldRestart stops and starts herald between a user's records several times, and reconnects with the same
// last id. The user must receive each record once, including the records written while herald was down.
func TestHeraldRestart(t *testing.T) {
	for name, end := range map[string]func(*testing.T, *herald, *eventSource){
		"kill -9": func(_ *testing.T, h *herald, _ *eventSource) { h.Kill() },
		"SIGTERM": func(t *testing.T, h *herald, s *eventSource) {
			t.Helper()
			h.Stop()
			checkDrained(t, s)
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := sharedBroker(t)
			h, lanes, shared := startWithLanes(t, b)
			alice := openStream(t, h, "alice")
			got, next := inOrder{}, 0
			write := func(times int) {
				for range times {
					for _, l := range lanes {
						b.produce(t, l.record(next))
						b.produce(t, inPartition(l.partition, record(shared, "bob", "bob's")))
					}
					next++
				}
			}
			for range 3 {
				write(2)
				// Leave some records unread: herald has sent them, and the client has not received them.
				for range len(lanes) + 2 {
					got.add(t, alice.Record().Data)
				}
				last := alice.LastID
				end(t, h, alice)
				write(2)
				h.Start()
				alice.LastID = last
				alice.Reconnect()
				for range 3*len(lanes) - 2 {
					got.add(t, alice.Record().Data)
				}
			}
			write(1)
			for range lanes {
				got.add(t, alice.Record().Data)
			}
			got.check(t, lanes, next)
		})
	}
}

// checkDrained reads the rest of a stream that herald has closed, whose last event says why.
func checkDrained(t *testing.T, s *eventSource) {
	t.Helper()
	rest := s.AwaitEnd()
	if len(rest) == 0 || rest[len(rest)-1].Type != "end" || rest[len(rest)-1].Data != `{"reason":"draining"}` {
		t.Errorf("the stream closed with %+v, want an end event with reason draining", rest)
	}
}

// TestKafkaRestart stops Kafka with SIGTERM or SIGKILL while streams are open, and starts it again. The open streams
// must continue.
func TestKafkaRestart(t *testing.T) {
	t.Parallel()
	b := ownBroker(t, "a restart of Kafka")
	for name, patience := range map[string]time.Duration{"SIGTERM": 30 * time.Second, "kill -9": 0} {
		t.Run(name, func(t *testing.T) {
			h, lanes, _ := startWithLanes(t, b)
			alice, bob := openStream(t, h, "alice"), openStream(t, h, "bob")
			got := inOrder{}
			write := func(n int) {
				for _, l := range lanes {
					b.produce(t, l.record(n))
				}
				for range lanes {
					got.add(t, alice.Record().Data)
				}
				if want, value := fmt.Sprint("everyone ", n), bob.Record().Data; value != want {
					t.Errorf("bob got %q, want %q", value, want)
				}
			}
			write(0)
			b.stop(t, patience)
			h.WaitNotReady()
			late := newStream(t, h.public, "alice") // opened while Kafka is down
			late.LastID = alice.LastID
			late.Connect()
			b.start(t)
			write(1)
			h.WaitReady()
			late.Checkpoint()
			values := inOrder{}
			for _, l := range lanes {
				values[l.name] = 1
			}
			for range lanes {
				values.add(t, late.Record().Data)
			}
			alice.Reconnect() // has missed nothing
			write(2)
			h.wantErrors("contact")
			h.wantErrors("fetch")
			h.wantLine(`level=WARN msg="broker cannot be read; retrying" broker=\d+ sessions=\d+ partitions=\d+ topic=\S+ partition=\d+ offset=\d+ error=`)
			h.wantLine(`level=INFO msg="broker is read again" broker=\d+ sessions=\d+ partitions=\d+`)
		})
	}
}

// TestKafkaDownAtStart starts herald before Kafka. Herald must be alive and not ready, and must become ready when
// Kafka answers.
func TestKafkaDownAtStart(t *testing.T) {
	t.Parallel()
	b := ownBroker(t, "a restart of Kafka")
	topic := b.newTopic(t, "shared", 1)
	h := newHerald(t, b, "--topic="+topic)
	b.stop(t, 30*time.Second)
	h.Launch()
	h.WaitNotReady()
	if a, err := send(t, http.MethodGet, "http://"+h.admin+"/livez", ""); a.status != http.StatusOK {
		t.Errorf("/livez = %d, %v while Kafka is down, want 200", a.status, err)
	}
	b.start(t)
	h.WaitReady()
	alice := openStream(t, h, "alice")
	b.produce(t, record(topic, "alice", "hello"))
	if got := alice.Record().Data; got != "hello" {
		t.Errorf("got %q, want hello", got)
	}
}
