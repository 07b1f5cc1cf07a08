package format

import (
	"fmt"
	"strings"
	"testing"

	"herald/consumer/batch"
)

func TestCloudEvents(t *testing.T) {
	f, err := New(KindCloudEvents, nil)
	if err != nil {
		t.Fatal(err)
	}
	const structured = "content-type: application/cloudevents+json; charset=UTF-8"
	const start = `{"specversion":"1.0","id":"7","source":"/s","type":"order.paid"`
	const attributes = "ce_specversion=1.0 ce_id=7 ce_source=/s ce_type=order.paid"
	for name, c := range map[string]struct {
		headers, value, want, reason string
		eventType, attributes        string
	}{
		"no event":                {value: "\xff", want: "\xff"},
		"no event, other type":    {headers: "content-type: application/json", value: "{", want: "{"},
		"binary":                  {headers: "ce_type: a.b, ce_id: 7, ce_specversion: 1.0, other: x", value: "x", want: "x", eventType: "a.b", attributes: "ce_type=a.b ce_id=7 ce_specversion=1.0"},
		"binary, a type twice":    {headers: "ce_type: a, ce_id: 7, ce_type: b", value: "", want: "", eventType: "b", attributes: "ce_id=7 ce_type=b"},
		"binary, a name too many": {headers: "ce_type: a, ce_a\nb: x, ce_: y, ce_B: z", value: "x", want: "x", eventType: "a", attributes: "ce_type=a"},
		"structured":              {headers: structured, value: start + `,"data":{"a":1}}`, want: `{"a":1}`, eventType: "order.paid", attributes: attributes},
		"another case":            {headers: "Content-Type: Application/CloudEvents+JSON", value: start + `,"data":1}`, want: `1`, eventType: "order.paid", attributes: attributes},
		"no encoding":             {headers: "content-type: application/cloudevents", value: start + `,"data":1}`, want: `1`, eventType: "order.paid", attributes: attributes},
		"no data":                 {headers: structured, value: start + `}`, want: ``, eventType: "order.paid", attributes: attributes},
		"null data":               {headers: structured, value: start + `,"data":null}`, want: `null`, eventType: "order.paid", attributes: attributes},
		"a JSON string":           {headers: structured, value: start + `,"data":"a\n"}`, want: `"a\n"`, eventType: "order.paid", attributes: attributes},
		"a text":                  {headers: structured, value: `{"datacontenttype":"text/plain",` + start[1:] + `,"data":"a\n"}`, want: "a\n", eventType: "order.paid", attributes: "ce_datacontenttype=text/plain " + attributes},
		"a JSON type":             {headers: structured, value: start + `,"data":"a","datacontenttype":"text/json"}`, want: `"a"`, eventType: "order.paid", attributes: attributes + " ce_datacontenttype=text/json"},
		"base64":                  {headers: structured, value: start + `,"data_base64":"/wA="}`, want: "\xff\x00", eventType: "order.paid", attributes: attributes},
		"extensions":              {headers: structured, value: start + `,"n":3,"b":true,"none":null,"data":{}}`, want: `{}`, eventType: "order.paid", attributes: attributes + " ce_n=3 ce_b=true"},

		"binary, many":        {headers: strings.ReplaceAll(strings.ReplaceAll(manyAttributes()[1:], `":""`, ": x"), `,"a`, ", ce_a") + ", ce_type: a, ce_id: 7", value: "x", reason: ReasonNotCloudEvent},
		"not JSON":            {headers: structured, value: start, reason: ReasonNotJSON},
		"empty":               {headers: structured, value: ``, reason: ReasonNotJSON},
		"an array":            {headers: structured, value: `[]`, reason: ReasonNotCloudEvent},
		"no type":             {headers: structured, value: `{"specversion":"1.0"}`, reason: ReasonNotCloudEvent},
		"another version":     {headers: structured, value: `{"specversion":"0.3","type":"a"}`, reason: ReasonNotCloudEvent},
		"an attribute object": {headers: structured, value: start + `,"a":{}}`, reason: ReasonNotCloudEvent},
		"a line in a name":    {headers: structured, value: start + `,"a\nb":"x"}`, reason: ReasonNotCloudEvent},
		"data twice":          {headers: structured, value: start + `,"data":1,"data_base64":""}`, reason: ReasonNotCloudEvent},
		"data not base64":     {headers: structured, value: start + `,"data_base64":"?"}`, reason: ReasonNotCloudEvent},
		"base64 of a number":  {headers: structured, value: start + `,"data_base64":1}`, reason: ReasonNotCloudEvent},
		"a batch":             {headers: "content-type: application/cloudevents-batch+json", value: `[]`, reason: ReasonNotCloudEvent},
		"Avro":                {headers: "content-type: application/cloudevents+avro", value: ``, reason: ReasonNotCloudEvent},
		"a broken type":       {headers: "content-type: application/cloudevents+json; =", value: `[]`, reason: ReasonNotCloudEvent},
		"many attributes":     {headers: structured, value: start + manyAttributes() + "}", reason: ReasonNotCloudEvent},
	} {
		r := &batch.Record{Value: []byte(c.value), Headers: parseHeaders(c.headers)}
		if !f.Ready(r, nil) {
			t.Errorf("%s: not ready", name)
		}
		d, err := f.Decode(r)
		checkResult(t, name, d, err, c.want, c.reason)
		if err != nil {
			continue
		}
		var got []string
		for _, h := range d.Headers {
			got = append(got, h.Key+"="+string(h.Value))
		}
		if text := strings.Join(got, " "); d.Type != c.eventType || text != c.attributes {
			t.Errorf("%s: type %q, attributes %q; want %q, %q", name, d.Type, text, c.eventType, c.attributes)
		}
	}
}

func parseHeaders(text string) []batch.Header {
	var headers []batch.Header
	for line := range strings.SplitSeq(text, ", ") {
		if key, value, ok := strings.Cut(line, ": "); ok {
			headers = append(headers, batch.Header{Key: key, Value: []byte(value)})
		}
	}
	return headers
}

func manyAttributes() string {
	var b strings.Builder
	for i := range maxAttributes {
		fmt.Fprintf(&b, `,"a%d":""`, i)
	}
	return b.String()
}

// TestNullAttributes leaves out headers without a value, because an attribute is a text.
func TestNullAttributes(t *testing.T) {
	d, err := cloudEvents{}.Decode(&batch.Record{Value: []byte("x"), Headers: []batch.Header{{Key: "ce_type"}, {Key: "ce_id", Value: []byte{}}}})
	if err != nil || d.Type != "" || len(d.Headers) != 1 || d.Headers[0].Key != "ce_id" {
		t.Errorf("%+v, %v", d, err)
	}
}

// FuzzCloudEvents decodes records of any bytes.
func FuzzCloudEvents(f *testing.F) {
	f.Add("application/cloudevents+json", []byte(`{"specversion":"1.0","type":"a","data":{"a":1},"datacontenttype":"text/plain"}`), "ce_type", "a")
	f.Add("application/json", []byte(`{}`), "ce_id", "a")
	f.Fuzz(func(t *testing.T, contentType string, value []byte, key, attribute string) {
		r := &batch.Record{Value: value, Headers: []batch.Header{{Key: key, Value: []byte(attribute)}, {Key: "Content-Type", Value: []byte(contentType)}}}
		d, err := cloudEvents{}.Decode(r)
		if err != nil {
			return
		}
		if d.Value == nil && value != nil {
			t.Error("the value is null")
		}
		for _, h := range d.Headers {
			if name, ok := strings.CutPrefix(h.Key, attributePrefix); !ok || !isAttributeName(name) || h.Value == nil {
				t.Errorf("header %q: %q", h.Key, h.Value)
			}
		}
	})
}
