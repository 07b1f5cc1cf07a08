package format_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"herald/consumer/batch"
	"herald/consumer/format"
	"herald/consumer/format/registrytest"
	"herald/consumer/registry"
)

// start returns a format whose registry has the schemas of registrytest, and the registry.
func start(tb testing.TB) (format.Format, *format.Registry) {
	tb.Helper()
	_, url := registrytest.Start(tb)
	client := registry.New(registry.Config{URLs: []string{url}})
	schemas := format.NewRegistry(client, slog.New(slog.DiscardHandler), nil)
	tb.Cleanup(func() {
		schemas.Close()
		client.Close()
	})
	f, err := format.New(format.KindRegistry, schemas)
	if err != nil {
		tb.Fatal(err)
	}
	return f, schemas
}

// awaitReady waits until a record is ready.
func awaitReady(tb testing.TB, schemas *format.Registry, f format.Format, r *batch.Record) {
	tb.Helper()
	done := make(chan struct{})
	if f.Ready(r, func() { close(done) }) {
		return
	}
	select {
	case <-done:
	case <-time.After(time.Minute):
		tb.Fatal("the registry did not answer:", schemas.Err())
	}
	if !f.Ready(r, nil) {
		tb.Fatal("a record is not ready after its wake")
	}
}

// TestOtherSerializers decodes the records of confluent-kafka's serializers and of the CloudEvents SDK.
func TestOtherSerializers(t *testing.T) {
	f, schemas := start(t)
	events, err := format.New(format.KindCloudEvents, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, record := range registrytest.Records() {
		t.Run(record.Kind+"/"+record.Name, func(t *testing.T) {
			r := &batch.Record{Key: record.Key, Value: record.Value, Headers: record.Headers}
			decoder := f
			if record.Kind == registrytest.CloudEvents {
				decoder = events
			}
			awaitReady(t, schemas, decoder, r)
			got, err := decoder.Decode(r)
			if err != nil {
				t.Fatal(err)
			}
			if got.Type != record.Type {
				t.Errorf("type %q, want %q", got.Type, record.Type)
			}
			if record.JSON == nil {
				if string(got.Value) != record.Text {
					t.Errorf("%q, want %q", got.Value, record.Text)
				}
				return
			}
			if diff := cmp.Diff(parse(t, record.JSON), parse(t, got.Value)); diff != "" {
				t.Errorf("value (-want +got):\n%s", diff)
			}
		})
	}
}

// parse parses a JSON text. Numbers of the same value are equal, and integers stay exact.
func parse(t *testing.T, text []byte) (value any) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&value); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return normalize(value)
}

func normalize(value any) any {
	switch v := value.(type) {
	case map[string]any:
		for name := range v {
			v[name] = normalize(v[name])
		}
	case []any:
		for i := range v {
			v[i] = normalize(v[i])
		}
	case json.Number:
		if _, err := v.Int64(); err == nil {
			return v
		}
		f, _ := v.Float64()
		if i := int64(f); f == float64(i) {
			return json.Number(strconv.FormatInt(i, 10))
		}
		return f
	}
	return value
}
