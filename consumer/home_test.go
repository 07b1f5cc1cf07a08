package consumer

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// userAt returns a user whose home partition is homes[n] in a topic of n partitions, for each n in homes.
func userAt(t *testing.T, p Partitioner, homes map[int]int32) string {
	t.Helper()
next:
	for i := range 100_000 {
		user := fmt.Sprint("user", i)
		for count, home := range homes {
			if p.choose([]byte(user), count) != home {
				continue next
			}
		}
		return user
	}
	t.Fatalf("no user has the homes %v", homes)
	return ""
}

// homeTests are courses of a topic's growth. seen calls saw for each metadata answer, with the number of
// partitions, the time since the start, and the offsets read. want holds the homes of the user and the
// offsets they begin at.
var homeTests = map[string]struct {
	seen func(saw func(count int, after time.Duration, read ...int64))
	want map[int32]int64
}{
	"nothing is known": {func(func(int, time.Duration, ...int64)) {}, map[int32]int64{}},
	"one number": {func(saw func(int, time.Duration, ...int64)) {
		saw(2, 0)
		saw(2, time.Hour, 5, 5)
	}, map[int32]int64{0: 0}},
	"grown soon after the start": {func(saw func(int, time.Duration, ...int64)) {
		saw(2, 0)
		saw(2, time.Second, 5, 5)
		saw(2, 50*time.Second, 6, 6)
		saw(3, 55*time.Second, 7, 7)
	}, map[int32]int64{0: 0, 1: 0}},
	"grown later": {func(saw func(int, time.Duration, ...int64)) {
		saw(2, 0)
		saw(2, time.Second, 5, 5)
		saw(2, 50*time.Second, 6, 6)
		saw(2, 61*time.Second, 7, 7)
		saw(2, 120*time.Second, 8, 8)
		saw(3, 125*time.Second, 9, 9)
	}, map[int32]int64{0: 0, 1: 5}},
	"metadata was unreachable": {func(saw func(int, time.Duration, ...int64)) {
		saw(2, 0)
		saw(2, time.Second, 5, 5)
		saw(2, 61*time.Second, 7, 7)
		saw(3, 24*time.Hour, 900, 900)
	}, map[int32]int64{0: 0, 1: 5}},
	"to a new partition": {func(saw func(int, time.Duration, ...int64)) {
		for i := range 10 {
			saw(2, time.Duration(i)*time.Minute, int64(i), int64(i))
		}
		saw(5, 10*time.Minute, 10, 10)
	}, map[int32]int64{0: 0, 3: 0}},
	"an outdated answer": {func(saw func(int, time.Duration, ...int64)) {
		saw(3, 0)
		for i := range 10 {
			saw(2, time.Duration(i)*time.Minute, int64(i), int64(i))
		}
	}, map[int32]int64{1: 0}},
}

// TestHomeMovesWhenItsTopicGrows checks where a user's homes begin when a topic grows under a replica. If
// the home moves to a partition that existed before, it begins at the offset read at least a minute before
// the replica last saw the topic without the growth.
func TestHomeMovesWhenItsTopicGrows(t *testing.T) {
	user := userAt(t, Murmur2, map[int]int32{2: 0, 3: 1, 5: 3})
	id := [16]byte{1}
	begun := time.Now()
	for name, test := range homeTests {
		t.Run(name, func(t *testing.T) {
			h := NewHomes("orders", Murmur2)
			test.seen(func(count int, after time.Duration, read ...int64) {
				h.RecordPartitions(id, count, begun.Add(after), read)
			})
			_, got := h.Find(user)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("homes and the offsets they begin at (-want +got):\n%s", diff)
			}
		})
	}
	t.Run("another incarnation", func(t *testing.T) {
		h := NewHomes("orders", Murmur2)
		h.RecordPartitions(id, 2, begun, nil)
		h.RecordPartitions([16]byte{2}, 5, begun.Add(time.Minute), []int64{5, 5})
		gotID, got := h.Find(user)
		if diff := cmp.Diff(map[int32]int64{3: 0}, got); diff != "" || gotID != [16]byte{2} {
			t.Errorf("homes of topic ID %x, want 02… (-want +got):\n%s", gotID, diff)
		}
	})
}

// TestMisplacedRecordsAreLoggedOnce checks that several misplaced records within a minute make one log
// line, which names the partitioner that would fit.
func TestMisplacedRecordsAreLoggedOnce(t *testing.T) {
	h := NewHomes("orders", Murmur2)
	var text bytes.Buffer
	counted := 0
	h.log, h.misplaced = slog.New(slog.NewTextHandler(&text, nil)), func() { counted++ }
	h.RecordPartitions([16]byte{1}, 1000, time.Now(), nil)
	wrong := CRC32.choose([]byte("alice"), 1000)
	for offset := range int64(5) {
		h.RecordMisplaced("alice", Position{Partition{Topic: "orders", ID: wrong}, offset})
	}
	got := text.String()
	if counted != 5 || strings.Count(got, "\n") != 1 || !strings.Contains(got, "partitioner=murmur2") || !strings.Contains(got, "fitting=[crc32]") {
		t.Errorf("counted %d misplaced records, want 5; logged %s", counted, got)
	}
}
