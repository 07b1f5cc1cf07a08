package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"

	"herald/consumer/format/registrytest"
)

// formatsPage opens a stream for each kind of record, whose user has the name of the kind, and keeps their events.
const formatsPage = `window.events = {}; window.gaps = []; window.begun = {};
for (const kind of %s) {
	const stream = new EventSource("/events?user=" + kind);
	events[kind] = [];
	stream.addEventListener("checkpoint", () => { begun[kind] = true; });
	stream.addEventListener("gap", (e) => gaps.push(e.data));
	for (const type of ["message", "com.example.order.paid"]) {
		stream.addEventListener(type, (e) => events[kind].push({ type, data: e.data }));
	}
}`

// TestFormatsInBrowser gives the records of other people's serializers to a page in Chromium. The registry is down
// when the records are written: the page gets all of them, in order and as JSON, once the registry answers.
func TestFormatsInBrowser(t *testing.T) {
	t.Parallel()
	registry, registryURL := registrytest.Start(t)
	registry.Fail(http.StatusServiceUnavailable)
	kinds := []string{registrytest.Avro, registrytest.Protobuf, registrytest.JSON, registrytest.CloudEvents}

	b := devBroker(t)
	values, events := b.newTopic(t, "values", 1), b.newTopic(t, "events", 1)
	h := startHerald(t, b, "--topic="+values+",format=registry", "--topic="+events+",format=cloudevents",
		"--schema-registry-url="+registryURL)
	browser := startChromium(t)
	if err := drive(browser, chromedp.Navigate("http://"+h.public+"/")); err != nil {
		t.Fatal(err)
	}
	list, err := json.Marshal(kinds)
	if err != nil {
		t.Fatal(err)
	}
	evaluate[any](t, browser, fmt.Sprintf(formatsPage, list))
	waitFor(t, "all streams have begun", func(context.Context) bool {
		return evaluate[int](t, browser, "Object.keys(begun).length") == len(kinds)
	})

	records := registrytest.Records()
	for _, r := range records {
		topic := values
		if r.Kind == registrytest.CloudEvents {
			topic = events
		}
		produced := &kgo.Record{Topic: topic, Key: []byte(r.Kind), Value: r.Value}
		for _, header := range r.Headers {
			produced.Headers = append(produced.Headers, kgo.RecordHeader{Key: header.Key, Value: header.Value})
		}
		b.produce(t, produced)
	}
	count := "Object.values(events).flat().length"
	waitFor(t, "the CloudEvents, which need no registry", func(context.Context) bool {
		return evaluate[int](t, browser, count) >= len(registrytest.Records(registrytest.CloudEvents))
	})
	registry.Fail(0)
	waitFor(t, "all records", func(context.Context) bool {
		return evaluate[int](t, browser, count)+evaluate[int](t, browser, "gaps.length") == len(records)
	})
	if gaps := evaluate[[]string](t, browser, "gaps"); len(gaps) > 0 {
		t.Errorf("gaps: %s", gaps)
	}
	for _, kind := range kinds {
		got := evaluate[[]struct{ Type, Data string }](t, browser, fmt.Sprintf("events[%q]", kind))
		want := registrytest.Records(kind)
		if len(got) != len(want) {
			t.Errorf("%s: %d events, want %d", kind, len(got), len(want))
			continue
		}
		for i, w := range want {
			if got[i].Type != w.Type && (w.Type != "" || got[i].Type != "message") {
				t.Errorf("%s, %s: type %s, want %s", kind, w.Name, got[i].Type, w.Type)
			}
			compareValue(t, kind+", "+w.Name, got[i].Data, w)
		}
	}
}

// compareValue compares a value with the record's JSON, or with its text if it has no JSON.
func compareValue(t *testing.T, name, got string, want registrytest.Record) {
	t.Helper()
	if want.JSON == nil {
		if got != want.Text {
			t.Errorf("%s: %q, want %q", name, got, want.Text)
		}
		return
	}
	if diff := cmp.Diff(readJSON(t, string(want.JSON)), readJSON(t, got), cmp.Comparer(equalNumbers)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

// readJSON reads a JSON text. Numbers keep all of their digits.
func readJSON(t *testing.T, text string) (value any) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&value); err != nil {
		t.Errorf("%.100q: %v", text, err)
	}
	return value
}

// equalNumbers reports whether two numbers are equal, such as 1 and 1.0.
func equalNumbers(a, b json.Number) bool {
	x, xOK := new(big.Rat).SetString(a.String())
	y, yOK := new(big.Rat).SetString(b.String())
	return xOK && yOK && x.Cmp(y) == 0
}
