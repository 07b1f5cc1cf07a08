package stream

import (
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

// at makes a topic cursor from pairs of partition and next offset.
// TestTagOfUnknownIDs holds PROTOCOL.md true.
func TestTagOfUnknownIDs(t *testing.T) {
	if unknownTag != "m8t6l1" {
		t.Errorf("the tag of a topic without id is %s", unknownTag)
	}
}

func at(topic string, topicID byte, pairs ...int64) topicCursor {
	s := newTopicCursor(topic, newIncarnation([16]byte{topicID}))
	for i := 0; i+1 < len(pairs); i += 2 {
		s.setNextOffset(int32(pairs[i]), pairs[i+1])
	}
	return s
}

// check checks that the id of a cursor decodes to the same cursor, except for partitions at offset 0.
func check(t *testing.T, c cursor) string {
	t.Helper()
	id := string(appendID(nil, c))
	sources, err := decodeID(id)
	if err != nil || len(sources) != len(c) {
		t.Fatalf("%q: %d sources, want %d: %v", id, len(sources), len(c), err)
	}
	for i := range c {
		want := slices.DeleteFunc(slices.Clone(c[i].positions), func(p position) bool { return p.next == 0 && !c[i].homed && !p.sought })
		got := sources[c[i].nameTag]
		for j := range want {
			want[j].fresh = false
		}
		if since, _ := c.since(); got.incarnation != c[i].incarnationTag || got.since != since || !slices.Equal(got.positions, want) {
			t.Fatalf("%q: %+v, want %s %+v", id, got, c[i].incarnationTag, want)
		}
	}
	if rest := strings.Trim(id, "0123456789abcdefghijklmnopqrstuvwxyz.~-"); rest != "" {
		t.Fatalf("id %q has %q", id, rest)
	}
	return id
}

func TestIDRoundTrip(t *testing.T) {
	home := at("d", 3, 1, 0, 4, 9)
	home.homed = true
	id := check(t, cursor{at("a", 1, 0, 42, 7, 1), at("b", 2, 1, 1<<40, 2, 0), at("c", 0), home})
	if len(id) > 128 {
		t.Errorf("id of %d bytes", len(id))
	}
	since := at("e", 1, 0, 42)
	since.seekPartition(1, 7, 3_600_000)
	since.seekPartition(2, 0, 3_600_000)
	if id := check(t, cursor{since}); !strings.HasPrefix(id, "1t3600000~") || !strings.HasSuffix(id, ".0-41.1-6t.2t") {
		t.Errorf("%q does not name the time that is sought", id)
	}
	if !strings.HasSuffix(id, ".1.4-8") {
		t.Errorf("%q does not name the home that was not read yet", id)
	}
}

// TestManySought checks that an id that fits a topic's partitions also fits them while they are sought.
func TestManySought(t *testing.T) {
	c := cursor{at("wide", 1)}
	for p := range int32(2500) {
		c[0].seekPartition(p, 12_345_678, time.Now().UnixMilli())
	}
	check(t, c)
}

// TestIncarnation checks that ids differ after a topic was deleted and created again. Otherwise a stream
// would resume at an offset of another log.
func TestIncarnation(t *testing.T) {
	if before, after := check(t, cursor{at("a", 1, 0, 5)}), check(t, cursor{at("a", 2, 0, 5)}); before == after {
		t.Errorf("both are %q", before)
	}
}

func TestBadIDs(t *testing.T) {
	for name, id := range map[string]string{
		"empty":               "",
		"another version":     "2~abcdef012345.0-41",
		"no version":          "~abcdef012345.0-41",
		"short tag":           "1~abcdef01234.0-41",
		"long tag":            "1~abcdef0123456.0-41",
		"tag of other bytes":  "1~abcdef01234z.0-41",
		"sign":                "1~abcdef012345.0-+41",
		"leading zero":        "1~abcdef012345.0-041",
		"partition twice":     "1~abcdef012345.0-41.0-42",
		"wrong order":         "1~abcdef012345.1-41.0-42",
		"source twice":        "1~abcdef012345.0-41~abcdef012345.0-41",
		"empty source":        "1~",
		"empty position":      "1~abcdef012345.",
		"empty offset":        "1~abcdef012345.0-",
		"negative offset":     "1~abcdef012345.0--1",
		"largest offset":      "1~abcdef012345.0-9223372036854775807",
		"beyond all offsets":  "1~abcdef012345.0-9223372036854775808",
		"empty partition":     "1~abcdef012345.-1",
		"large partition":     "1~abcdef012345.2147483648-1",
		"hexadecimal":         "1~abcdef012345.0-0x10",
		"empty time":          "1t~abcdef012345.0-1t",
		"negative time":       "1t-1~abcdef012345.0-1t",
		"beyond all times":    "1t9223372036854775808~abcdef012345.0-1t",
		"two times":           "1t5t6~abcdef012345.0-1t",
		"no time":             "1~abcdef012345.0-1t",
		"time for nothing":    "1t5~abcdef012345.0-1",
		"time of a partition": "1t5~abcdef012345.0-1t5",
		"sought twice":        "1t5~abcdef012345.0-1tt",
		"space":               "1~abcdef012345.0- 1",
		"behind the end":      "1~abcdef012345.0-1~",
		"too long":            "1~abcdef012345" + strings.Repeat(".0-1", maxIDLength/4),
	} {
		if got, err := decodeID(id); !errors.Is(err, errBadID) {
			t.Errorf("%s: %v, error %v", name, got, err)
		}
	}
}

// FuzzID checks that cursors of two topics, given as pairs of partition and next offset, survive encoding
// and decoding. A pair whose partition has the sign bit is sought, from a time taken from the topic id. Ids
// travel in headers and queries, so they consist of letters, digits and .~- only.
func FuzzID(f *testing.F) {
	pairs := func(list ...uint64) []byte {
		var b []byte
		for i := 0; i+1 < len(list); i += 2 {
			b = binary.BigEndian.AppendUint32(b, uint32(list[i]))
			b = binary.BigEndian.AppendUint64(b, list[i+1])
		}
		return b
	}
	f.Add("orders", "all", []byte("0123456789abcdef"), pairs(0, 0, 1, 1, 2, 42), pairs(math.MaxInt32, math.MaxInt64, 0, math.MaxInt64))
	f.Add("", "~.-", []byte{}, []byte{}, pairs(7, 7))
	f.Add("orders", "all", []byte{1}, pairs(1<<31, 5, 1<<31+1, 0, 2, 9), pairs(1<<31+7, 1))
	f.Add("orders", "all", []byte{0xff}, pairs(1<<31-1, 1<<62, 0, 2), []byte{})
	f.Fuzz(func(t *testing.T, first, second string, incarnation, firstAt, secondAt []byte) {
		var topicID [16]byte
		copy(topicID[:], incarnation)
		c := cursor{newTopicCursor(first, newIncarnation(topicID)), newTopicCursor(second, absent)}
		if c[0].nameTag == c[1].nameTag {
			return // the same topic twice, which no stream has
		}
		for i, b := range [][]byte{firstAt, secondAt} {
			for ; len(b) >= 12 && len(c[i].positions) < 200; b = b[12:] {
				partition, next := int32(binary.BigEndian.Uint32(b)&math.MaxInt32), int64(binary.BigEndian.Uint64(b[4:])&math.MaxInt64)
				if b[0]&0x80 != 0 {
					c[i].seekPartition(partition, next, int64(binary.BigEndian.Uint64(topicID[:])&math.MaxInt64))
				} else {
					c[i].setNextOffset(partition, next)
				}
			}
		}
		check(t, c)
		c[0].homed = true
		check(t, c)
	})
}

// FuzzDecodeID decodes arbitrary text. An id that is accepted must be one that Herald could have made.
func FuzzDecodeID(f *testing.F) {
	f.Add("1~abcdef012345.0-41.7-9")
	f.Add("1~abcdef012345.0.3-5")
	f.Add("1~abcdef012345.0-9223372036854775807")
	f.Add("1~abcdef012345.0--1~abcdef012345")
	f.Add("1t7~abcdef012345.0t.3-5.4-6t~bcdef0123456.7-9t")
	f.Fuzz(func(t *testing.T, id string) {
		sources, err := decodeID(id)
		if err != nil {
			if len(sources) > 0 || !errors.Is(err, errBadID) {
				t.Fatalf("%v with error %v", sources, err)
			}
			return
		}
		var again cursor // in the order in which the id names the topics
		for _, field := range strings.Split(id, "~")[1:] {
			s := sources[field[:tagSize]]
			homed := slices.ContainsFunc(s.positions, func(p position) bool { return p.next == 0 })
			again = append(again, topicCursor{nameTag: field[:tagSize], incarnation: incarnation{incarnationTag: s.incarnation}, positions: s.positions, since: s.since, homed: homed})
		}
		if made := string(appendID(nil, again)); made != id {
			t.Fatalf("%q is taken and made again as %q", id, made)
		}
	})
}

func TestExplainID(t *testing.T) {
	news := at("news", 1, 0, 42, 3, 7, 5, 0)
	news.homed = true
	hour := time.UnixMilli(3_600_000)
	news.seekPartition(6, 9, hour.UnixMilli())
	id := check(t, cursor{news, newTopicCursor("own", absent)})
	got, err := ExplainID(id, "news", "other")
	if err != nil || len(got) != 2 {
		t.Fatalf("%+v, %v", got, err)
	}
	for _, s := range got {
		switch s.Topic {
		case "news":
			if !s.Exists || s.Last[0] != 41 || s.Last[3] != 6 || s.Last[5] != -1 || s.Last[6] != 8 || len(s.Last) != 4 || len(s.Since) != 1 || !s.Since[6].Equal(hour) {
				t.Errorf("%+v", s)
			}
		default:
			if s.Exists || s.Tag != tag("own") || len(s.Last) > 0 {
				t.Errorf("%+v", s)
			}
		}
	}
	if _, err := ExplainID("2~x"); err == nil {
		t.Error("an id of no version that there is was explained")
	}
}

// BenchmarkAppendID encodes the id of an event over one shared topic: with a position in each of 50
// partitions, and with a position in the user's home only.
func BenchmarkAppendID(b *testing.B) {
	for name, partitions := range map[string]int32{"50 partitions": 50, "home partition": 1} {
		b.Run(name, func(b *testing.B) {
			s := newTopicCursor("notifications", newIncarnation([16]byte{1}))
			for p := range partitions {
				s.setNextOffset(p, 12_345_678)
			}
			c := cursor{s}
			id := appendID(nil, c)
			b.ReportAllocs()
			for b.Loop() {
				id = appendID(id[:0], c)
			}
			b.ReportMetric(float64(len(id)), "bytes/id")
		})
	}
}
