package stream

import (
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"herald/consumer"
)

// decoded is an id as a cursor over topics, which must be the topics it was made for.
func decoded(t *testing.T, id string, topics []feedTopic) cursor {
	t.Helper()
	saved, err := decodeID(id)
	if err != nil {
		t.Fatalf("%q: %v", id, err)
	}
	if len(saved) != len(topics) {
		t.Fatalf("%q: %d sources, want %d", id, len(saved), len(topics))
	}
	at := make(cursor)
	for _, topic := range topics {
		source, ok := saved[topic.tag]
		if !ok || source.incarnation != topic.incarnation {
			t.Fatalf("%q: source %q has incarnation %q, want %q", id, topic.tag, source.incarnation, topic.incarnation)
		}
		for partition, next := range source.next {
			at[consumer.Partition{Topic: topic.name, ID: partition}] = next
		}
	}
	return at
}

func TestIDRoundTrip(t *testing.T) {
	topics := []feedTopic{newFeedTopic("a", [16]byte{1}), newFeedTopic("b", [16]byte{2})}
	at := cursor{{Topic: "a", ID: 0}: 42, {Topic: "a", ID: 7}: 1, {Topic: "b", ID: 1}: 1 << 40, {Topic: "b", ID: 2}: 0}
	id := encodeID(topics, at)
	delete(at, consumer.Partition{Topic: "b", ID: 2}) // not yet read from: left out
	if diff := cmp.Diff(at, decoded(t, id, topics)); diff != "" {
		t.Errorf("%s\n%s", id, diff)
	}
	if len(id) > 128 {
		t.Errorf("id of %d bytes", len(id))
	}
}

// TestIncarnation wants ids of a topic that was deleted and created again to differ, or a resume
// would go on at an offset of another log.
func TestIncarnation(t *testing.T) {
	at := cursor{{Topic: "a"}: 5}
	before, after := encodeID([]feedTopic{newFeedTopic("a", [16]byte{1})}, at), encodeID([]feedTopic{newFeedTopic("a", [16]byte{2})}, at)
	if before == after {
		t.Errorf("both are %q", before)
	}
}

func TestBadIDs(t *testing.T) {
	for name, id := range map[string]string{
		"empty":              "",
		"another version":    "2~abcdef0123.0-41",
		"no version":         "~abcdef0123.0-41",
		"short tag":          "1~abcdef012.0-41",
		"long tag":           "1~abcdef01234.0-41",
		"empty source":       "1~",
		"empty position":     "1~abcdef0123.",
		"no offset":          "1~abcdef0123.0",
		"empty offset":       "1~abcdef0123.0-",
		"negative offset":    "1~abcdef0123.0--1",
		"largest offset":     "1~abcdef0123.0-9223372036854775807",
		"beyond all offsets": "1~abcdef0123.0-9223372036854775808",
		"empty partition":    "1~abcdef0123.-1",
		"large partition":    "1~abcdef0123.2147483648-1",
		"hexadecimal":        "1~abcdef0123.0-0x10",
		"space":              "1~abcdef0123.0- 1",
		"behind the end":     "1~abcdef0123.0-1~",
		"too long":           "1~abcdef0123" + strings.Repeat(".0-1", maxIDLength/4),
	} {
		if got, err := decodeID(id); !errors.Is(err, errBadID) {
			t.Errorf("%s: %v, error %v", name, got, err)
		}
	}
}

// FuzzID encodes cursors of two topics, given as pairs of partition and next offset, and wants
// them back. Ids travel in header and query: they are made of letters, digits and .~- only.
func FuzzID(f *testing.F) {
	pairs := func(list ...uint64) []byte {
		var b []byte
		for pair := range slices.Chunk(list, 2) {
			b = binary.BigEndian.AppendUint32(b, uint32(pair[0]))
			b = binary.BigEndian.AppendUint64(b, pair[1])
		}
		return b
	}
	f.Add("orders", "all", []byte("0123456789abcdef"), pairs(0, 0, 1, 1, 2, 42), pairs(math.MaxInt32, math.MaxInt64, 0, math.MaxInt64))
	f.Add("", "~.-", []byte{}, []byte{}, pairs(7, 7))
	f.Add("orders", "all", []byte{0xff}, pairs(1<<31-1, 1<<62, 0, 2), []byte{})
	f.Fuzz(func(t *testing.T, first, second string, incarnation, firstAt, secondAt []byte) {
		var topicID [16]byte
		copy(topicID[:], incarnation)
		topics := []feedTopic{newFeedTopic(first, topicID), newFeedTopic(second, [16]byte{})}
		if topics[0].tag == topics[1].tag {
			return // the same topic: a stream has each once
		}
		at, want := make(cursor), make(cursor)
		for i, b := range [][]byte{firstAt, secondAt} {
			for ; len(b) >= 12 && len(at) < 200; b = b[12:] {
				p := consumer.Partition{Topic: topics[i].name, ID: int32(binary.BigEndian.Uint32(b) & math.MaxInt32)}
				at[p] = int64(binary.BigEndian.Uint64(b[4:]) & math.MaxInt64)
				want[p] = at[p]
				if at[p] == 0 {
					delete(want, p) // not yet read from
				}
			}
		}
		id := encodeID(topics, at)
		if rest := strings.Trim(id, "0123456789abcdefghijklmnopqrstuvwxyz.~-"); rest != "" {
			t.Fatalf("id %q has %q", id, rest)
		}
		if diff := cmp.Diff(want, decoded(t, id, topics)); diff != "" {
			t.Fatalf("%q\n%s", id, diff)
		}
		if again := encodeID(topics, at); again != id {
			t.Fatalf("%q, then %q: ids of one cursor differ", id, again)
		}
	})
}

// FuzzDecodeID reads ids that anybody made up: positions that come out are ones that exist.
func FuzzDecodeID(f *testing.F) {
	f.Add("1~abcdef0123.0-41.7-9")
	f.Add("1~abcdef0123.0-9223372036854775807")
	f.Add("1~abcdef0123.0--1~abcdef0123")
	f.Fuzz(func(t *testing.T, id string) {
		saved, err := decodeID(id)
		if err != nil && (len(saved) > 0 || !errors.Is(err, errBadID)) {
			t.Fatalf("%v with error %v", saved, err)
		}
		for tag, source := range saved {
			if len(tag) != nameSize || len(source.incarnation) != incSize {
				t.Fatalf("source %q, incarnation %q", tag, source.incarnation)
			}
			for partition, next := range source.next {
				if partition < 0 || next <= 0 {
					t.Fatalf("partition %d, next %d", partition, next)
				}
			}
		}
	})
}
