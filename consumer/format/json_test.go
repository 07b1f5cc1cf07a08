package format

import (
	"errors"
	"strings"
	"testing"

	"herald/consumer/batch"
)

func TestConfluentJSON(t *testing.T) {
	f, err := New(KindConfluentJSON, nil)
	if err != nil {
		t.Fatal(err)
	}
	framed := func(text string) string { return "\x00\x00\x00\x01\x02" + text }
	for name, c := range map[string]struct {
		value, want, reason string
		headers             []batch.Header
	}{
		"an object":          {value: framed(`{"a": 9007199254740993}`), want: `{"a": 9007199254740993}`},
		"spaces around":      {value: framed("\r\n\t \"ä\" \n"), want: `"ä"`},
		"null":               {value: framed("null"), want: "null"},
		"a GUID":             {value: "\x01" + strings.Repeat("g", 16) + "[]", want: "[]"},
		"a GUID in a header": {value: "[]", headers: []batch.Header{{Key: guidHeader, Value: []byte("\x01" + strings.Repeat("g", 16))}}, want: "[]"},
		"a broken header":    {value: "[]", headers: []batch.Header{{Key: guidHeader, Value: []byte("\x01g")}}, reason: ReasonNotFramed},
		"no frame":           {value: `{"a": 1}`, reason: ReasonNotFramed},
		"empty":              {reason: ReasonNotFramed},
		"a cut frame":        {value: "\x00\x00\x00\x01", reason: ReasonNotFramed},
		"no text":            {value: framed(""), reason: ReasonNotJSON},
		"spaces alone":       {value: framed(" "), reason: ReasonNotJSON},
		"cut off":            {value: framed(`{"a":[`), reason: ReasonNotJSON},
		"two texts":          {value: framed(`1 2`), reason: ReasonNotJSON},
		"bytes after":        {value: framed("{}\x00"), reason: ReasonNotJSON},
		"a name twice":       {value: framed(`{"a":1,"\u0061":2}`), reason: ReasonNotJSON},
		"not UTF-8":          {value: framed("\"\xff\""), reason: ReasonNotJSON},
		"a number too many":  {value: framed("NaN"), reason: ReasonNotJSON},
		"too deep":           {value: framed(strings.Repeat("[", 1<<20)), reason: ReasonNotJSON},
		"too large":          {value: framed(`"` + strings.Repeat("a", MaxValue) + `"`), reason: ReasonTooLarge},
	} {
		r := &batch.Record{Value: []byte(c.value), Headers: c.headers}
		if !f.Ready(r, nil) {
			t.Errorf("%s: not ready", name)
		}
		d, err := f.Decode(r)
		checkResult(t, name, d, err, c.want, c.reason)
		if err != nil && strings.Contains(err.Error(), "\\u0061") {
			t.Errorf("%s: the error has a part of the value: %v", name, err)
		}
	}
}

// checkResult compares the result of Decode with the value or the reason of the error that a test wants.
func checkResult(t *testing.T, name string, d Decoded, err error, value, reason string) {
	t.Helper()
	if reason != "" {
		if e, ok := errors.AsType[*Error](err); !ok || e.Reason != reason {
			t.Errorf("%s: %q, %v, want reason %s", name, d.Value, err, reason)
		}
		return
	}
	if err != nil || d.Value == nil || string(d.Value) != value {
		t.Errorf("%s: %q, %v, want %q", name, d.Value, err, value)
	}
}

func TestNew(t *testing.T) {
	if _, err := New("avro", nil); err == nil || !strings.Contains(err.Error(), "want one of registry, confluent-json, cloudevents") {
		t.Errorf("an unknown kind: %v", err)
	}
	if _, err := New(KindRegistry, nil); err == nil || !strings.Contains(err.Error(), "needs a schema registry") {
		t.Errorf("no registry: %v", err)
	}
}
