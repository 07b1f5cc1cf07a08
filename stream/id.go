package stream

import (
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"slices"
	"strconv"
	"strings"

	"herald/consumer"
)

// Event ids, version 1:
//
//	id     = "1" *( "~" source )
//	source = name incarnation *( "." partition "-" offset )
//
// name is six characters of a hash of the topic's name, incarnation four of a hash of its topic
// id; offset is that of the last record considered. A partition that is missing was not yet read
// from. Ids are made of [0-9a-z.~-] only. They are never trusted: they say where to go on in the
// caller's own records and nothing else.
const (
	idVersion   = "1"
	nameSize    = 6
	incSize     = 4
	maxIDLength = 16 << 10
)

var errBadID = errors.New("not an event id of Herald")

var tagEncoding = base32.HexEncoding.WithPadding(base32.NoPadding)

func tag(text string, size int) string {
	sum := sha256.Sum256([]byte(text))
	return strings.ToLower(tagEncoding.EncodeToString(sum[:8]))[:size]
}

// cursor is how far a stream has come: for each partition the next offset to consider.
type cursor map[consumer.Partition]int64

// feedTopic is a topic as ids name it.
type feedTopic struct {
	name             string
	tag, incarnation string
}

func newFeedTopic(name string, id [16]byte) feedTopic {
	return feedTopic{name, tag(name, nameSize), tag(string(id[:]), incSize)}
}

// encodeID makes the id of a stream over topics at the cursor.
func encodeID(topics []feedTopic, at cursor) string {
	var b strings.Builder
	b.WriteString(idVersion)
	parts := make([]consumer.Partition, 0, len(at))
	for p := range at {
		parts = append(parts, p)
	}
	slices.SortFunc(parts, func(x, y consumer.Partition) int { return int(x.ID - y.ID) })
	for _, t := range topics {
		b.WriteByte('~')
		b.WriteString(t.tag)
		b.WriteString(t.incarnation)
		for _, p := range parts {
			if p.Topic != t.name || at[p] == 0 {
				continue
			}
			b.WriteByte('.')
			b.WriteString(strconv.Itoa(int(p.ID)))
			b.WriteByte('-')
			b.WriteString(strconv.FormatInt(at[p]-1, 10))
		}
	}
	return b.String()
}

// savedSource is what an id says of one topic.
type savedSource struct {
	incarnation string
	next        map[int32]int64
}

// decodeID reads an id: its sources by the name part of their tags.
func decodeID(id string) (map[string]savedSource, error) {
	if len(id) > maxIDLength {
		return nil, errBadID
	}
	fields := strings.Split(id, "~")
	if fields[0] != idVersion {
		return nil, errBadID
	}
	sources := make(map[string]savedSource, len(fields)-1)
	for _, field := range fields[1:] {
		positions := strings.Split(field, ".")
		head := positions[0]
		if len(head) != nameSize+incSize {
			return nil, errBadID
		}
		s := savedSource{incarnation: head[nameSize:], next: make(map[int32]int64, len(positions)-1)}
		for _, text := range positions[1:] {
			part, offset, ok := strings.Cut(text, "-")
			id, err := strconv.ParseInt(part, 10, 32)
			o, err2 := strconv.ParseInt(offset, 10, 64)
			if !ok || err != nil || err2 != nil || id < 0 || o < 0 || o+1 <= 0 {
				return nil, errBadID
			}
			s.next[int32(id)] = o + 1
		}
		sources[head[:nameSize]] = s
	}
	return sources, nil
}
