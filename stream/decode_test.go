package stream

import (
	"bytes"
	"testing"

	"herald/consumer"
	"herald/consumer/batch"
)

// growingFormat makes large values of small ones. It notes the most bytes that decoded records of a delivery have at once.
type growingFormat struct {
	records []consumer.Record
	most    int
}

func (*growingFormat) Ready(*batch.Record, func()) bool { return true }

func (g *growingFormat) Decode(r *batch.Record) (consumer.Decoded, error) {
	size := 0
	for i := range g.records {
		size += len(g.records[i].Value)
	}
	g.most = max(g.most, size)
	return consumer.Decoded{Value: bytes.Repeat(r.Value, 1000)}, nil
}

// TestOneDecodedValueIsInMemory delivers records whose decoded values are large. When the hub decodes one, it must have let
// go of the values before.
func TestOneDecodedValueIsInMemory(t *testing.T) {
	for topic, mark := range map[string]func(*consumer.Record){
		"shared": func(r *consumer.Record) { r.User = []byte("alice") },
		"teams":  func(r *consumer.Record) { r.User, r.Claim = []byte("red"), "team" },
	} {
		h := newTeamHub()
		s := member(h, "alice", "team=red")
		g := &growingFormat{records: make([]consumer.Record, 50)}
		p := consumer.Partition{Topic: topic}
		for i := range g.records {
			g.records[i] = consumer.Record{Record: batch.Record{Offset: int64(i), Value: []byte("v")}}
			mark(&g.records[i])
			g.records[i].SetFormat(p, g, false)
		}
		s.acceptLiveRecords()
		h.Deliver(p, g.records, int64(len(g.records)))
		if q, _, _ := s.takeQueue(); q == nil || len(q.items) != len(g.records) {
			t.Fatalf("%s: the queue is %+v, want %d records", topic, q, len(g.records))
		}
		if g.most > 100 {
			t.Errorf("%s: %d bytes of values were in memory", topic, g.most)
		}
	}
}
