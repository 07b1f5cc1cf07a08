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

// How ids are made is in the package's documentation.
const (
	idVersion   = "1"
	tagSize     = 6
	maxIDLength = 48 << 10 // bytes; a longer one is none
)

var errBadID = errors.New("not an event id of Herald")

var tagEncoding = base32.HexEncoding.WithPadding(base32.NoPadding)

func tag(text string) string {
	sum := sha256.Sum256([]byte(text))
	return strings.ToLower(tagEncoding.EncodeToString(sum[:8]))[:tagSize]
}

// appendID appends the id of a stream at the cursor. If it would be longer than ids may be, it is without
// the topic that has the most positions: a stream that resumes from it tells that by a gap.
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

// appendHead appends what is in front of the sources.
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

// savedTopic is what an id says of one topic.
type savedTopic struct {
	incarnation string // its tag
	positions   []position
	since       int64 // of positions that are sought
}

// decodeID reads an id: its sources by the tags of their names. It takes what appendID makes and
// nothing else, so that one place has one id.
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

// decodePosition reads what an id says of one partition.
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

// IDSource is what an event id says of one topic.
type IDSource struct {
	Topic       string          // its name, if it was among those given
	Tag         string          // a hash of the name
	Incarnation string          // a hash of the topic id (KIP-516)
	Exists      bool            // the topic existed when the id was made
	Last        map[int32]int64 // by partition: the offset of the last record considered; -1: none yet

	// Since are partitions in which the stream is to begin with what was written at the time or later, the
	// zero time: with all, and of which Kafka had not told yet where that is. Last is where it begins at
	// the latest.
	Since map[int32]time.Time
}

// ExplainID reads an event id. Topics, if given, are names to put in place of hashes. The error says
// that the id is none.
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
