package stream

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"strconv"
)

// This part of the model covers clients that ask for more than a record's value.

// key returns the record's key, which is also the value of its header: one character for some records, so that their
// value may be large while their fields are not.
func (r *logRecord) key() string {
	if r.null || r.time%2 == 0 {
		return r.value
	}
	return "k"
}

// chooseShape returns the plain shape for half of the clients. The others get at least the key, by which the model
// knows a tombstone.
func (w *world) chooseShape() shape {
	if w.random.IntN(2) == 0 {
		return 0
	}
	return showKey | shape(w.random.IntN(2*int(showEnvelope)))
}

// has reports whether the record was written to the client.
func (c *cutBody) has(rec logRecord) bool {
	line, member := "data: "+rec.value+"\n", `"data":"`+rec.value+`"}`+"\n"
	if rec.null {
		line, member = "key: "+rec.value+"\n", `"key":"`+rec.value+`",`
	}
	return bytes.Contains(c.text, []byte(line)) || bytes.Contains(c.text, []byte(member))
}

// unwrap returns the event as a client has it that asks for the value only; the value of a tombstone is its key. It
// reports a violation if a field differs from the log.
func (w *world) unwrap(c *simClient, e event, fields map[string]string) event {
	complain := func(format string, args ...any) {
		w.wrong = append(w.wrong, fmt.Sprintf("%+v with the fields %q: ", e, fields)+fmt.Sprintf(format, args...))
	}
	switch e.kind {
	case TypeGap, TypeEnd:
		return e
	case TypeCheckpoint:
		w.checkPos(c, e, complain)
		return e
	}
	if c.shape.has(showEnvelope) {
		e.data, fields = openEnvelope(e.data, complain)
	}
	if e.kind == TypeDelete {
		if e.data != "" {
			complain("a tombstone has data")
		}
		e.data = fields["key"]
	}
	rec := w.values[e.data]
	if (e.kind == TypeDelete) != rec.null {
		complain("the record is a tombstone: %t", rec.null)
	}
	var id, partition, offset int
	if _, err := fmt.Sscanf(e.data, "%d/%d/%d", &id, &partition, &offset); err != nil {
		complain("%v", err)
		return e
	}
	var want map[string]string
	for _, f := range []struct {
		bit         shape
		name, value string
	}{
		{showTime, "time", strconv.Itoa(rec.time)},
		{showKey, "key", rec.key()},
		{showPos, "pos", fmt.Sprintf("%s-%d@%d", w.past[[16]byte{byte(id)}].name, partition, offset)},
		{showHeaders, "header.trace", rec.key()},
	} {
		if c.shape.has(f.bit) {
			if want == nil {
				want = make(map[string]string)
			}
			want[f.name] = f.value
		}
	}
	if !maps.Equal(want, fields) {
		complain("want %q", want)
	}
	return e
}

// openEnvelope returns the value and the fields of an envelope.
func openEnvelope(text string, complain func(string, ...any)) (data string, fields map[string]string) {
	var envelope struct {
		Data, Key, Pos string
		Time           json.Number
		Headers        map[string]string
	}
	if err := json.Unmarshal([]byte(text), &envelope); err != nil {
		complain("%v", err)
	}
	fields = map[string]string{"time": envelope.Time.String(), "key": envelope.Key, "pos": envelope.Pos, "header.trace": envelope.Headers["trace"]}
	maps.DeleteFunc(fields, func(_, value string) bool { return value == "" })
	return envelope.Data, fields
}

// checkPos checks that a checkpoint has the positions of its id, if the client asked for them.
func (w *world) checkPos(c *simClient, e event, complain func(string, ...any)) {
	var data checkpointData
	if err := json.Unmarshal([]byte(e.data), &data); err != nil {
		complain("%v", err)
		return
	}
	if (data.Pos != nil) != c.shape.has(showPos) {
		complain("positions without the field, or none with it")
	}
	if data.Pos == nil {
		return
	}
	sources, err := decodeID(e.id)
	if err != nil {
		complain("%v", err)
	}
	left := maps.Clone(data.Pos)
	for _, topic := range w.topics {
		for _, p := range sources[tag(topic.name)].positions {
			name, want := fmt.Sprintf("%s-%d", topic.name, p.partition), p.next-1
			if p.sought {
				want = -1
			}
			if got, ok := data.Pos[name]; !ok || got != want {
				complain("%s is at %d, the id is at %d", name, got, want)
			}
			delete(left, name)
		}
	}
	for name, offset := range left {
		if offset != -1 { // ids leave out what they can
			complain("%s is at %d, the id does not name it", name, offset)
		}
	}
}
