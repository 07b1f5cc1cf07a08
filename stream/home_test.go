package stream

import (
	"fmt"
	"hash/crc32"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"herald/consumer"
)

// userAt returns a user whose home by CRC-32 is the given partition, for each given number of partitions.
func userAt(homes map[uint32]uint32) string {
next:
	for i := 0; ; i++ {
		user := fmt.Sprint("user", i)
		for count, home := range homes {
			if crc32.ChecksumIEEE([]byte(user))%count != home {
				continue next
			}
		}
		return user
	}
}

// named returns the partitions that the id names for the topic homes.
func named(t *testing.T, id string) string {
	t.Helper()
	found := regexp.MustCompile(tag("homes") + `[0-9a-z]{6}([^~]*)`).FindStringSubmatch(id)
	if found == nil {
		t.Fatalf("id %q without the topic", id)
	}
	return regexp.MustCompile(`-\d+`).ReplaceAllString(found[1], "")
}

// TestHomePartition streams from a topic whose route names a partitioner. Partitions are added under the
// stream, so that the user's home moves to a partition that existed before. Records in both homes must
// arrive.
func TestHomePartition(t *testing.T) {
	broker := startBroker(t, kfake.SeedTopics(3, "homes"))
	server := serveOn(t, broker, Config{}, (*httptest.Server).Start, []consumer.Route{{Topic: "homes", Partitioner: consumer.CRC32}})
	url, hub, c := server.url, server.hub, server.consumer
	client, err := kgo.NewClient(kgo.SeedBrokers(broker.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	user := userAt(map[uint32]uint32{3: 0, 4: 1})
	put := func(partition int32, value string) consumer.Position {
		t.Helper()
		r := &kgo.Record{Topic: "homes", Partition: partition, Key: []byte(user), Value: []byte(value)}
		if err := client.ProduceSync(t.Context(), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
		return consumer.Position{Partition: consumer.Partition{Topic: "homes", ID: partition}, Offset: r.Offset}
	}
	s := open(t, url+user, "")
	first := s.next().id
	if got := named(t, first); got != ".0" {
		t.Errorf("the first id names %q, want the home", got)
	}
	put(2, "misplaced")
	put(0, "a")
	if got := strings.Join(s.until("a"), " "); got != "a" {
		t.Errorf("got %q, want what is in the home", got)
	}
	written := consumer.Written{Position: put(0, "b"), TopicID: hub.seam([]consumer.UserTopic{{Topic: "homes"}})[0].topicID, Partitions: 3}
	s.until("b")
	if id, ok := hub.IDAfter(c.UserTopics(user), user, written); !ok || id != s.last {
		t.Errorf("the id behind the last record is %q, the stream's %q", id, s.last)
	}
	if id, ok := hub.IDAfter(c.UserTopics(""), "", written); !ok || named(t, id) != ".0.2" {
		t.Errorf("the id for everyone is %q, want all partitions that have been read", id)
	}
	if got := strings.Join(open(t, url+user, first).until("b"), " "); got != "a b" {
		t.Errorf("from the first id: %q, want what is in the home", got)
	}

	if answer, err := kadm.NewClient(client).UpdatePartitions(t.Context(), 4, "homes"); err != nil || answer.Error() != nil {
		t.Fatalf("add a partition: %v %v", err, answer.Error())
	}
	put(1, "c") // the server does not know the new partitions yet
	put(0, "d")
	got := map[string]bool{}
	for len(got) < 2 {
		if e := s.next(); e.kind != TypeCheckpoint {
			got[e.data] = true
		}
	}
	if diff := cmp.Diff(map[string]bool{"c": true, "d": true}, got); diff != "" {
		t.Error(diff)
	}
	if got := named(t, s.last); got != ".0.1" {
		t.Errorf("the id names %q, want both homes", got)
	}
	_ = s.res.Body.Close()
	put(0, "e")
	again := open(t, url+user, s.last)
	if got := strings.Join(again.until("e"), " "); got != "e" {
		t.Errorf("resumed: %q, want what the old home has got", got)
	}
	put(1, "f")
	if got := strings.Join(again.until("f"), " "); got != "f" {
		t.Errorf("resumed: %q, want what the new home has got", got)
	}
	if got := named(t, open(t, url+user, "").next().id); got != ".0.1" {
		t.Errorf("a stream that begins now has %q, want both homes", got)
	}
	// The id from before the growth does not name the new home, so the new home is read from its start.
	fromOld := open(t, url+user, first)
	seen := map[string]bool{}
	for len(seen) < 6 {
		if e := fromOld.next(); e.kind != TypeCheckpoint {
			seen[e.data] = true
		}
	}
	if diff := cmp.Diff(map[string]bool{"a": true, "b": true, "c": true, "d": true, "e": true, "f": true}, seen); diff != "" {
		t.Error(diff)
	}
}

// TestNewHomeIsTold adds partitions under a quiet stream. The stream must write a checkpoint that names the
// new home at once, because the client's next replica may not know that the partition is a home.
func TestNewHomeIsTold(t *testing.T) {
	id := [16]byte{1}
	homes := consumer.NewHomes("shared", consumer.Murmur2)
	s := newStream(t, streamOptions{})
	s.writer.cursor = cursor{newTopicCursor("shared", newIncarnation(id))}
	s.sub.topics = []consumer.UserTopic{{Topic: "shared", Homes: homes}}
	for _, count := range []int{1, 100} {
		homes.RecordPartitions(id, count, time.Now(), nil)
		for _, want := range []int{1, 0} {
			now := newTopicCursor("shared", newIncarnation(id))
			s.catchUp.updateHomes(&s.writer.cursor[0], &now)
			if got := strings.Count(string(s.writer.buffer().b), TypeCheckpoint); got != want {
				t.Errorf("%d checkpoints with %d partitions, want %d", got, count, want)
			}
			s.writer.buf = nil
		}
	}
}
