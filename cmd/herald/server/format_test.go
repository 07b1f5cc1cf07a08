package server

import (
	"bytes"
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"herald/consumer"
	"herald/consumer/format"
	"herald/consumer/format/registrytest"
	"herald/consumer/registry"
)

// heardEvents are the events of a stream so far, each with its type, but no checkpoints.
type heardEvents struct {
	mu   sync.Mutex
	list []string
	last string // the id of the last event
}

// hearEvents reads a stream until the test ends.
func hearEvents(t *testing.T, address string, header http.Header) *heardEvents {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	events, heard, done := openEvents(ctx, t, address, header), new(heardEvents), make(chan struct{})
	go func() {
		defer close(done)
		for {
			e, err := events.Next()
			if err != nil {
				return
			}
			heard.mu.Lock()
			if heard.last = e.ID; e.Type != "checkpoint" {
				heard.list = append(heard.list, e.Type+" "+e.Data)
			}
			heard.mu.Unlock()
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	return heard
}

func (h *heardEvents) lastID() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.last
}

// of returns the events among the wanted ones, in their order.
func (h *heardEvents) of(want []string) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(h.list), func(e string) bool { return !slices.Contains(want, e) })
}

// await waits until all wanted events have come, and wants them in this order, each once.
func (h *heardEvents) await(t *testing.T, how string, want []string) {
	t.Helper()
	await(t, how+": the number of events", true, func() bool { return len(h.of(want)) >= len(want) })
	if diff := cmp.Diff(want, h.of(want)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", how, diff)
	}
}

func writeValues(t *testing.T, broker *kfake.Cluster, topic string, headers []kgo.RecordHeader, values ...[]byte) {
	t.Helper()
	producer, err := kgo.NewClient(kgo.SeedBrokers(broker.ListenAddrs()...), kgo.AllowAutoTopicCreation())
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	for _, value := range values {
		if err := producer.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Key: []byte("alice"), Value: value, Headers: headers}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestFormatsReachClients runs a server whose schema registry is away at first. Records wait for their schemas,
// and their partitions with them, while other topics continue. A record that cannot be decoded is a gap in its place, live,
// by replay and for a client that resumes.
func TestFormatsReachClients(t *testing.T) {
	schemas, url := registrytest.Start(t)
	client := registry.New(registry.Config{URLs: []string{url}})
	t.Cleanup(client.Close)
	srv, broker := startServerWith(t, func(cfg *Config) {
		cfg.Schemas = client
		cfg.Consumer.Routes = append(slices.Clone(testRoutes),
			consumer.Route{Topic: "values", Format: format.KindRegistry},
			consumer.Route{Topic: "news", Kind: consumer.Broadcast, Format: format.KindRegistry})
	})
	schemas.Fail(http.StatusServiceUnavailable)
	base := "http://" + srv.Addr().String() + "/events?user=alice"
	live := hearEvents(t, base, nil)
	await(t, "the stream has begun", true, func() bool { return live.lastID() != "" })
	first, last := jsonRecords(t)
	torn := append(bytes.Clone(first.Value[:5]), `{"`...)
	writeValues(t, broker, "values", nil, first.Value, torn, last.Value)
	writeValues(t, broker, "news", nil, last.Value)
	writeValues(t, broker, "notifications", nil, []byte("meanwhile"))
	live.await(t, "while the registry is away", []string{"message meanwhile"})
	await(t, "two partitions wait, and say so", true, func() bool {
		_, _, body := request(t, http.MethodGet, "http://"+srv.AdminAddr().String()+"/readyz?strict", nil)
		return strings.Contains(body, "partitions that wait for a schema: 2, such as")
	})
	if got := live.of([]string{"message " + string(first.Value[5:])}); len(got) > 0 {
		t.Errorf("%q arrives without its schema", got)
	}
	opened := time.Now()
	schemas.Fail(0)
	want := []string{"message " + string(first.Value[5:]), `gap {"source":"values","partition":0,"from":1,"to":2,"reason":"undecodable"}`}
	live.await(t, "live", want)
	t.Logf("%v after the registry was back", time.Since(opened))
	await(t, "no partition waits", true, func() bool { return srv.Ready() == nil })
	rest := "message " + string(last.Value[5:])
	live.await(t, "the last record, and the one for everyone", []string{rest, rest})
	hearEvents(t, base+"&since=earliest", nil).await(t, "by replay", want)
	hearEvents(t, base+"&since=earliest&types=message", nil).await(t, "with types", want)
	id := live.lastID()
	writeValues(t, broker, "values", nil, torn)
	resumed := hearEvents(t, base, http.Header{"Last-Event-ID": {id}})
	resumed.await(t, "a client that resumes", []string{`gap {"source":"values","partition":0,"from":3,"to":4,"reason":"undecodable"}`})
	if got := resumed.of(want); len(got) > 0 {
		t.Errorf("a client that resumes gets %q again", got)
	}
}

// jsonRecords returns two records with schemas of JSON, whose values are the JSON texts after the schema's id.
func jsonRecords(t *testing.T) (first, last registrytest.Record) {
	t.Helper()
	list := slices.DeleteFunc(registrytest.Records(registrytest.JSON), func(r registrytest.Record) bool {
		return len(r.Value) < 6 || r.Value[0] != 0 || r.Value[5] != '{'
	})
	if len(list) < 2 {
		t.Fatalf("%d records of JSON, want 2", len(list))
	}
	return list[0], list[1]
}

// TestCloudEventsReachClients wants the type and the attributes of CloudEvents in events.
func TestCloudEventsReachClients(t *testing.T) {
	srv, broker := startServerWith(t, func(cfg *Config) {
		cfg.Consumer.Routes = append(slices.Clone(testRoutes), consumer.Route{Topic: "events", Format: format.KindCloudEvents})
	})
	structured := `{"specversion":"1.0","id":"7","source":"/shop","type":"order.paid","data":{"n":1}}`
	writeValues(t, broker, "events", []kgo.RecordHeader{{Key: "content-type", Value: []byte("application/cloudevents+json")}}, []byte(structured), []byte("{"))
	writeValues(t, broker, "events", []kgo.RecordHeader{{Key: "ce_type", Value: []byte("order.sent")}, {Key: "ce_id", Value: []byte("8")}, {Key: "ce_specversion", Value: []byte("1.0")}}, []byte("sent"))
	writeValues(t, broker, "events", nil, []byte("plain"))
	base := "http://" + srv.Addr().String() + "/events?user=alice&since=earliest"
	gap := `gap {"source":"events","partition":0,"from":1,"to":2,"reason":"undecodable"}`
	hearEvents(t, base, nil).await(t, "all types", []string{`order.paid {"n":1}`, gap, "order.sent sent", "message plain"})
	hearEvents(t, base+"&types=order.sent", nil).await(t, "one type", []string{gap, "order.sent sent"})
	hearEvents(t, base+"&format=json&fields=headers", nil).await(t, "attributes", []string{
		`order.sent {"headers":{"ce_type":"order.sent","ce_id":"8","ce_specversion":"1.0"},"data":"sent"}`,
	})
}
