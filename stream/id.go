package stream

import (
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// PROTOCOL.md has the grammar of ids.
const (
	idVersion   = "1"
	tagSize     = 6
	maxIDLength = 48 << 10 // bytes; longer text is not an id
)

var errBadID = errors.New("not an event id of Herald")

var tagEncoding = base32.HexEncoding.WithPadding(base32.NoPadding)

func tag(text string) string {
	sum := sha256.Sum256([]byte(text))
	return strings.ToLower(tagEncoding.EncodeToString(sum[:8]))[:tagSize]
}

// appendID appends the id of a cursor. If the id would be longer than maxIDLength, it leaves out the topic with
// the most positions. A stream that resumes from such an id reports the topic by a gap.
func appendID(b []byte, at cursor) []byte {
	begun := len(b)
	b = appendHead(b, at)
	for i := range at {
		b = appendTopic(b, &at[i])
	}
	if len(b)-begun > maxIDLength {
		i := at.indexOfLargestTopic()
		return appendID(b[:begun], slices.Concat(at[:i], at[i+1:]))
	}
	return b
}

// appendHead appends the part of an id before the topics.
func appendHead(b []byte, at cursor) []byte {
	b = append(b, idVersion...)
	if since, seeks := at.since(); seeks {
		b = strconv.AppendInt(append(b, 't'), since, 10)
	}
	return b
}

func appendTopic(b []byte, s *topicCursor) []byte {
	b = append(b, '~')
	b = append(b, s.nameTag...)
	b = append(b, s.incarnationTag...)
	for _, p := range s.positions {
		if p.next == 0 && !s.homed && !p.sought {
			continue
		}
		b = append(b, '.')
		b = strconv.AppendInt(b, int64(p.partition), 10)
		if p.next > 0 {
			b = append(b, '-')
			b = strconv.AppendInt(b, p.next-1, 10)
		}
		if p.sought {
			b = append(b, 't')
		}
	}
	return b
}

// savedTopic is the part of an id for one topic.
type savedTopic struct {
	incarnation string // the incarnation's tag
	positions   []position
	since       int64 // the time of sought positions
}

// decodeID decodes an id. It returns the topics by the tags of their names. It accepts only text that appendID
// makes, so that a cursor has exactly one id.
func decodeID(id string) (map[string]savedTopic, error) {
	if len(id) > maxIDLength {
		return nil, errBadID
	}
	fields := strings.Split(id, "~")
	version, text, timed := strings.Cut(fields[0], "t")
	since, err := int64(0), error(nil)
	if timed {
		since, err = decimal(text, math.MaxInt64)
	}
	if err != nil || version != idVersion {
		return nil, errBadID
	}
	sources := make(map[string]savedTopic, len(fields)-1)
	seeks := false
	for _, field := range fields[1:] {
		texts := strings.Split(field, ".")
		head := texts[0]
		if len(head) != 2*tagSize || strings.Trim(head, "0123456789abcdefghijklmnopqrstuv") != "" {
			return nil, errBadID
		}
		s := savedTopic{incarnation: head[tagSize:], positions: make([]position, 0, len(texts)-1), since: since}
		last := int32(-1)
		for _, text := range texts[1:] {
			p, err := decodePosition(text)
			if err != nil || p.partition <= last {
				return nil, errBadID
			}
			last, seeks = p.partition, seeks || p.sought
			s.positions = append(s.positions, p)
		}
		if _, twice := sources[head[:tagSize]]; twice {
			return nil, errBadID
		}
		sources[head[:tagSize]] = s
	}
	if seeks != timed {
		return nil, errBadID
	}
	return sources, nil
}

// decodePosition decodes the part of an id for one partition.
func decodePosition(text string) (p position, err error) {
	text, sought := strings.CutSuffix(text, "t")
	text, offset, considered := strings.Cut(text, "-")
	partition, err := decimal(text, math.MaxInt32)
	if err == nil && considered {
		p.next, err = decimal(offset, math.MaxInt64-1)
		p.next++
	}
	p.partition, p.sought = int32(partition), sought //nolint:gosec // at most MaxInt32
	return p, err
}

// IDSource is the part of an event id for one topic.
type IDSource struct {
	Topic       string          // the topic's name, if the caller gave it
	Tag         string          // a hash of the name
	Incarnation string          // a hash of the topic id (KIP-516)
	Exists      bool            // the topic existed when the id was made
	Last        map[int32]int64 // by partition: the offset of the last record considered; -1: none yet

	// Since has the partitions that begin with the first record written at the time or later, while Kafka
	// had not yet named that record's offset. The zero time stands for all records. Last then bounds the
	// offset: the stream begins after it at the latest.
	Since map[int32]time.Time
}

// ExplainID decodes an event id. An id has only hashes of topics' names: the result has the names that topics
// lists. The error says that the text is not an id.
func ExplainID(id string, topics ...string) ([]IDSource, error) {
	decoded, err := decodeID(id)
	if err != nil {
		return nil, err
	}
	names := make(map[string]string, len(topics))
	for _, name := range topics {
		names[tag(name)] = name
	}
	var sources []IDSource
	for _, t := range slices.Sorted(maps.Keys(decoded)) {
		s := IDSource{Topic: names[t], Tag: t, Incarnation: decoded[t].incarnation, Exists: decoded[t].incarnation != absent.incarnationTag, Last: make(map[int32]int64), Since: make(map[int32]time.Time)}
		for _, p := range decoded[t].positions {
			s.Last[p.partition] = p.next - 1
			if p.sought {
				s.Since[p.partition] = sinceTime(decoded[t].since)
			}
		}
		sources = append(sources, s)
	}
	return sources, nil
}

// sinceTime is the time that a source's positions are sought from: zero for the start of the log.
func sinceTime(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}

// decimal reads a number of 0 to limit as strconv.AppendInt writes it.
func decimal(text string, limit int64) (int64, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 || n > limit || strconv.FormatInt(n, 10) != text {
		return 0, errBadID
	}
	return n, nil
}
