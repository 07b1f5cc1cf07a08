package server

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"herald/auth"
	"herald/consumer"
)

// TestForgedIDs resumes alice's stream from ids that she did not get, by header and by query. Each stream begins
// with 200 and a checkpoint. It sends no record of another user, at most limit of alice's older records for each
// topic, and the records written later.
func TestForgedIDs(t *testing.T) {
	const limit, past = 5, 20
	routes := []consumer.Route{{Topic: "notifications"}, {Topic: "own.{user}", Kind: consumer.PerUser}, {Topic: "announcements", Kind: consumer.Broadcast}}
	s := startSecured(t, func(set *Config) {
		set.Consumer.Routes, set.ReplayMaxRecords = routes, limit
		set.MaxStreamsPerUser = 0
	})
	other := startSecured(t, func(set *Config) {
		set.Consumer.Routes = []consumer.Route{{Topic: "orders"}, {Topic: "announcements", Kind: consumer.Broadcast}}
	})
	write := func(s *secured, topic, key, value string) {
		t.Helper()
		if _, err := s.producer.Produce(t.Context(), consumer.Message{Topic: topic, Key: []byte(key), Value: []byte(value)}); err != nil {
			t.Fatal(err)
		}
	}
	alice, bob := bearer(s.token(t, auth.Identity{User: "alice"})), bearer(s.token(t, auth.Identity{User: "bob"}))
	for i := range past {
		write(s, "own.alice", "", fmt.Sprint("alice's own ", i))
		write(s, "own.bob", "", fmt.Sprint("bob's own ", i))
		write(s, "notifications", "alice", fmt.Sprint("alice's ", i))
		write(s, "notifications", "bob", fmt.Sprint("bob's ", i))
	}
	write(other, "orders", "alice", "of another")
	good := lastIDOf(t, s.url+"/events?since=earliest", alice, fmt.Sprint("alice's ", past-1))
	first, _, _ := strings.Cut(good, "-")
	ids := map[string]string{
		"64 KiB of nothing":     strings.Repeat("a", 64<<10),
		"64 KiB of offsets":     good + strings.Repeat(".9-9", (64<<10-len(good))/4),
		"64 KiB of sources":     "1" + strings.Repeat("~000000000000", 64<<10/13),
		"bob's":                 lastIDOf(t, s.url+"/events?since=earliest", bob, fmt.Sprint("bob's own ", past-1)),
		"another server's":      lastIDOf(t, other.url+"/events?since=earliest", bearer(other.token(t, auth.Identity{User: "alice"})), "of another"),
		"offsets beyond":        strings.ReplaceAll(good, "-", "-9"),
		"the largest offset":    first + "-9223372036854775806",
		"partitions beyond":     good + ".7000-1.2147483647-5",
		"incarnations of zero":  good[:8] + "00000" + good[13:],
		"one more byte":         good + "0",
		"all sought":            sought(good, "0"),
		"sought in the future":  sought(good, "9223372036854775807"),
		"sought beyond":         sought(strings.ReplaceAll(good, "-", "-9"), "1"),
		"sought, partitions":    sought(good+".7000-1.2147483647-5", "0"),
		"sought, incarnations":  sought(good[:8]+"00000"+good[13:], "0"),
		"a line's end, encoded": good + "%0a",
	}
	for b := 0x80; b <= 0xff; b++ {
		ids[fmt.Sprintf("byte %x", b)] = good[:10] + string([]byte{byte(b)}) + good[10:]
	}
	for i := 1; i < len(good); i++ {
		ids[fmt.Sprintf("the first %d bytes", i)] = good[:i]
	}
	n := 0
	for name, id := range ids {
		for _, how := range []string{"header", "query"} {
			address, header := s.url+"/events", maps.Clone(alice)
			if how == "header" {
				header["Last-Event-ID"] = []string{id}
			} else {
				address += "?lastEventId=" + url.QueryEscape(id)
			}
			n++
			if t.Failed() || !t.Run(name+" by "+how, func(t *testing.T) {
				forgedID(t, address, header, fmt.Sprint("live ", n), limit, func(value string) { write(s, "own.alice", "", value) })
			}) {
				return
			}
		}
	}
}

// sought returns the id with all of its positions sought from the time.
func sought(id, time string) string {
	return "1t" + time + regexp.MustCompile(`(\.\d+(?:-\d+)?)`).ReplaceAllString(strings.TrimPrefix(id, "1"), "${1}t")
}

// forgedID opens a stream with a forged id, writes a live record, and reads until that record arrives. See
// TestForgedIDs for the assertions.
func forgedID(t *testing.T, address string, header http.Header, live string, limit int, write func(string)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel() // before the next one
	events := openEvents(ctx, t, address, header)
	checkpoint := false
	byTopic := make(map[string]int)
	for {
		e, err := events.Next()
		if err != nil {
			t.Fatalf("%v; a checkpoint came: %t", err, checkpoint)
		}
		switch {
		case e.Type == "checkpoint" && !checkpoint:
			checkpoint = true
			write(live)
		case e.Type == "checkpoint", e.Type == "gap":
		case e.Type != "message" || !checkpoint:
			t.Fatalf("got %+v", e)
		case e.Data == live:
			for topic, n := range byTopic {
				if n > limit {
					t.Errorf("%d records of %s were replayed, want %d at most", n, topic, limit)
				}
			}
			return
		case strings.HasPrefix(e.Data, "alice's own"), strings.HasPrefix(e.Data, "live"):
			byTopic["own.alice"]++
		case strings.HasPrefix(e.Data, "alice's "):
			byTopic["notifications"]++
		default:
			t.Fatalf("got %+v, which is not alice's", e)
		}
	}
}
