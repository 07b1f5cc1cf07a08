package stream

import (
	"bytes"
	"encoding/json"
)

// jsonAnswer is the output of a poll whose client reads JSON. It translates the event stream into JSON, piece by piece:
//
//	application/json        {"events":[…],"lastEventId":"…","live":true}
//	application/x-ndjson    one event a line; the last line is a checkpoint
//
// A record's data in the event stream is a JSON object already (see [showEnvelope]). The translation puts the event's id
// and type before its members, and need not read the rest, which may be long. Checkpoints are not events of the
// answer: the last one becomes its end. Comments, which are heartbeats, become white space.
type jsonAnswer struct {
	*response
	lines bool // application/x-ndjson

	line     []byte // the part of a line that has arrived, without a record's data
	inData   bool   // the line is a record's data, whose beginning has arrived
	id, kind string // the id and the type of the event that arrives
	head     []byte // what the client gets before the rest that sendLarge has returned
	opened   bool   // the comment that opens the event stream has arrived
	begun    bool   // the answer's first bytes are written
	events   int

	last checkpointData // zero: an event came after the last checkpoint
	end  EndError       // why Herald ends the poll early; empty: it does not
}

// newJSONAnswer returns an answer to a client that has the id lastID. If Kafka does not say where the client is, the
// answer returns this id.
func newJSONAnswer(r *response, lines bool, lastID string) *jsonAnswer {
	return &jsonAnswer{response: r, lines: lines, id: lastID}
}

func (a *jsonAnswer) send(b []byte) ([]byte, error) { return a.translate(b[headroom:]), nil }

// sendLarge returns the event's own bytes, which all streams share: a copy for each of very many polls would take the
// event's size times their number. The answer has these bytes, too, except for the lines before the data and the line
// breaks after it.
func (a *jsonAnswer) sendLarge(l *large) ([]byte, error) {
	text := l.text
	if begin := []byte("data: {"); !a.inData {
		if !bytes.HasPrefix(text, begin) {
			begin = []byte("\ndata: {") // after the type, which has no line break
		}
		end := bytes.Index(text, begin) + len(begin)
		a.head, text = a.translate(text[:end]), text[end:]
	}
	text = text[:len(text)-len("\n\n")]
	if a.lines {
		text = text[:len(text)+len("\n")]
	}
	a.inData, a.kind, a.last = false, "", checkpointData{} // the blank line after the event has arrived
	return text, nil
}

// finish writes what comes before a large event's value, and then the rest.
func (a *jsonAnswer) finish(rest []byte) error {
	if head := a.head; len(head) > 0 {
		a.head = nil
		if err := a.response.finish(head); err != nil {
			return err
		}
	}
	return a.response.finish(rest)
}

// close writes the end of the answer. A client that does not get the end throws the answer away.
func (a *jsonAnswer) close(clean bool) (whole bool) {
	return a.response.close(clean && a.finish(a.appendEnd(nil)) == nil)
}

// translate returns the translation of a part of the event stream.
func (a *jsonAnswer) translate(text []byte) []byte {
	b := a.appendBegin(make([]byte, 0, len(text)+len(text)/4))
	for len(text) > 0 {
		part, rest, whole := bytes.Cut(text, []byte("\n"))
		text = rest
		if !a.inData {
			a.line = append(a.line, part...)
			part = nil
			if data, ok := bytes.CutPrefix(a.line, []byte("data: {")); ok && !IsOwn(a.kind) {
				b = append(a.appendHead(b), data...)
				a.line, a.inData = a.line[:0], true
			}
		}
		b = append(b, part...)
		if whole {
			b = a.appendLine(b)
		}
	}
	return b
}

// appendLine appends what a line of the event stream becomes, and begins the next line. The data of a record is in b
// already.
func (a *jsonAnswer) appendLine(b []byte) []byte {
	name, value, _ := bytes.Cut(a.line, []byte(": "))
	switch {
	case a.inData:
		a.inData = false
		b = a.appendTail(b)
	case len(a.line) == 0:
		a.kind = ""
	case a.line[0] == ':':
		if a.opened {
			b = append(b, '\n')
		}
		a.opened = true
	default:
		switch string(name) {
		case "id":
			a.id = string(value)
		case "event":
			a.kind = string(value)
		case "data":
			b = a.appendOwn(b, value)
		}
	}
	a.line = a.line[:0]
	return b
}

// appendOwn appends one of Herald's own events, or notes it for the end of the answer.
func (a *jsonAnswer) appendOwn(b, data []byte) []byte {
	switch a.kind {
	case TypeCheckpoint:
		a.last = checkpointData{}
		_ = json.Unmarshal(data, &a.last) // this package has written it
	case TypeEnd:
		var end endData
		_ = json.Unmarshal(data, &end)
		a.end = end.Reason
	case TypeGap:
		b = appendJSONText(append(a.appendHead(b), `"data":`...), data)
		b = a.appendTail(append(b, '}'))
	}
	return b
}

// appendHead appends the beginning of an event, up to the members that its data has.
func (a *jsonAnswer) appendHead(b []byte) []byte {
	if a.events++; a.events > 1 && !a.lines {
		b = append(b, ',')
	}
	b = append(append(b, `{"id":"`...), a.id...)
	kind := a.kind
	if kind == "" {
		kind = TypeMessage
	}
	return append(appendJSONText(append(b, `","type":`...), []byte(kind)), ',')
}

// appendTail ends an event, so that no checkpoint is the last one of the answer.
func (a *jsonAnswer) appendTail(b []byte) []byte {
	a.last = checkpointData{}
	if a.lines {
		b = append(b, '\n')
	}
	return b
}

// appendBegin appends the beginning of the answer, once.
func (a *jsonAnswer) appendBegin(b []byte) []byte {
	if !a.begun && !a.lines {
		b = append(b, `{"events":[`...)
	}
	a.begun = true
	return b
}

// appendEnd appends the end of the answer.
func (a *jsonAnswer) appendEnd(b []byte) []byte {
	ending := struct {
		Type string           `json:"type,omitempty"`
		ID   *string          `json:"id,omitempty"`
		Last *string          `json:"lastEventId,omitempty"`
		Live bool             `json:"live"`
		Pos  map[string]int64 `json:"pos,omitempty"`
		End  EndError         `json:"end,omitempty"`
	}{Live: a.last.Live, Pos: a.last.Pos}
	if a.lines {
		ending.Type, ending.ID = TypeCheckpoint, &a.id
	} else {
		ending.Last, ending.End = &a.id, a.end
	}
	text, _ := json.Marshal(ending) // no such value fails
	if !a.lines {
		return append(append(append(a.appendBegin(b), "],"...), text[1:]...), '\n')
	}
	b = append(append(b, text...), '\n')
	if a.end != "" {
		data, _ := json.Marshal(endData{a.end})
		b = append(appendJSONText(append(b, `{"type":"end","data":`...), data), "}\n"...)
	}
	return b
}
