package stream

import (
	"errors"

	"herald/consumer"
	"herald/consumer/batch"
)

// This part of the model has records that cannot be decoded, in all topics. The format takes the last byte from a value.

// encoded ends the values of records in the log that can be decoded; other values cannot.
const encoded = "~"

type modelFormat struct{ world *world }

func (modelFormat) Ready(*batch.Record, func()) bool { return true }

// Decode sometimes fails as if the schema of a record had left memory after Ready: then a replay must bring the record.
func (f modelFormat) Decode(r *batch.Record) (consumer.Decoded, error) {
	value := string(r.Value)
	switch {
	case value[len(value)-1:] != encoded && f.world.planted == "what cannot be decoded comes":
		return consumer.Decoded{Value: r.Value}, nil
	case value[len(value)-1:] != encoded:
		return consumer.Decoded{}, errors.New("not decodable")
	case f.world.planted == "what cannot be decoded yet is a gap" && f.world.fails():
		return consumer.Decoded{}, errors.New("not decodable")
	case f.world.fails():
		return consumer.Decoded{}, consumer.ErrNotReady
	}
	return consumer.Decoded{Value: r.Value[:len(value)-1]}, nil
}

// isUndecodable reports whether clients get a gap in place of the record.
func (r *logRecord) isUndecodable() bool { return !r.null && r.time%9 == 0 }

// encodedValue returns the value as the log has it.
func (r *logRecord) encodedValue() []byte {
	if r.isUndecodable() {
		return []byte(r.value)
	}
	return []byte(r.value + encoded)
}

// verifyUndecodable checks a gap for a record that cannot be decoded: it is for the client, and covers this record only. It
// returns the value of the record.
func (w *world) verifyUndecodable(c *simClient, topic *logTopic, g *receivedGap) (value string, err error) {
	part := topic.partitions[g.Partition]
	if part.cuts > 0 && g.From >= int64(len(part.records)) {
		return "", nil
	}
	rec := &part.records[g.From]
	switch {
	case g.To != g.From+1:
		err = errors.New("a gap for more than one record that cannot be decoded")
	case part.cuts > 0: // another record may have been there
	case !rec.isUndecodable():
		err = errors.New("a gap for a record that can be decoded")
	case topic.kind != consumer.Broadcast && topic.claim == "" && rec.user != c.user:
		err = errors.New("a gap for a record of another user")
	}
	return rec.value, err
}
