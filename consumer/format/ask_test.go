package format

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"herald/consumer/batch"
)

// testSource is a registry that answers as a test says.
type testSource struct {
	mu    sync.Mutex
	asked int
	get   func(path string) (string, error)
}

func (s *testSource) Get(ctx context.Context, path string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	text, err := s.get(path)
	return []byte(text), err
}

func (s *testSource) set(get func(path string) (string, error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.get = get
}

// requests returns how many requests the source has got.
func (s *testSource) requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

var errAway = errors.New("status 503")

// framed returns a record with a schema id.
func framed(id uint32, payload string) *batch.Record {
	return &batch.Record{Value: append(binary.BigEndian.AppendUint32([]byte{0}, id), payload...)}
}

// found answers that the schema is a string of Avro.
func found(string) (string, error) { return `{"schema":"\"string\""}`, nil }

func unknown(string) (string, error) { return "", fmt.Errorf("asked: %w", ErrNotFound) }

func away(string) (string, error) { return "", errAway }

// newTestFormat returns a format whose registry asks the source, and the log.
func newTestFormat(t *testing.T, source *testSource) (*registryFormat, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	r := NewRegistry(source, slog.New(slog.NewTextHandler(&log, nil)), prometheus.NewRegistry())
	t.Cleanup(r.Close)
	return newRegistryFormat(r), &log
}

// TestAskOnce asks for a schema once, however many records wait for it, and wakes each of them once.
func TestAskOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answer := make(chan struct{})
		source := &testSource{get: func(path string) (string, error) {
			<-answer
			return found(path)
		}}
		f, _ := newTestFormat(t, source)
		defer f.registry.Close()
		woken := 0
		var mu sync.Mutex
		for range 10 {
			if f.Ready(framed(1, ""), func() { mu.Lock(); woken++; mu.Unlock() }) || f.Ready(framed(1, ""), nil) {
				t.Fatal("ready without an answer")
			}
		}
		if _, err := f.Decode(framed(1, "")); !errors.Is(err, ErrNotReady) {
			t.Errorf("a record that is not ready: %v", err)
		}
		close(answer)
		synctest.Wait()
		if n := source.requests(); n != 1 || woken != 10 {
			t.Errorf("%d requests, %d wakes, want 1 and 10", n, woken)
		}
		d, err := f.Decode(framed(1, "\x02a"))
		checkResult(t, "a string", d, err, `"a"`, "")
		d, err = f.Decode(framed(1, "\x04a"))
		checkResult(t, "a cut string", d, err, "", ReasonMismatch)
		if !f.Ready(framed(1, ""), nil) || !f.Ready(&batch.Record{}, nil) || !f.Ready(framed(1<<31, ""), nil) || !f.Ready(&batch.Record{Value: []byte("{}")}, nil) {
			t.Error("not ready, although nothing is to be asked")
		}
		d, err = f.Decode(framed(1<<31, ""))
		checkResult(t, "an id that no registry has", d, err, "", ReasonUnknownSchema)
		if n := testutil.ToFloat64(f.registry.metrics.requests.WithLabelValues(resultFound)); n != 1 {
			t.Errorf("metric of found schemas: %v", n)
		}
	})
}

// TestAskingIsBounded begins a bounded number of requests for records with random ids that nobody waits for. A record that a
// partition waits for is asked for in any case.
func TestAskingIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := &testSource{get: away}
		f, _ := newTestFormat(t, source)
		defer f.registry.Close()
		for id := range uint32(10 * maxAsking) {
			if f.Ready(framed(id, ""), nil) {
				t.Fatal("ready without an answer")
			}
		}
		if n := len(f.registry.entries); n != maxAsking {
			t.Errorf("%d schemas are asked for, want %d", n, maxAsking)
		}
		woken := false
		f.Ready(framed(1<<30, ""), func() { woken = true })
		source.set(found)
		time.Sleep(time.Minute)
		synctest.Wait() // also for the race detector
		if !woken || f.registry.asking.Load() != 0 {
			t.Errorf("woken: %t; %d schemas are still asked for", woken, f.registry.asking.Load())
		}
	})
}

// TestLaggingFollower asks again after the first answers ErrNotFound.
func TestLaggingFollower(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := &testSource{get: unknown}
		f, _ := newTestFormat(t, source)
		defer f.registry.Close()
		f.Ready(framed(1, ""), nil)
		time.Sleep(500 * time.Millisecond)
		source.set(found)
		time.Sleep(2 * time.Second)
		d, err := f.Decode(framed(1, "\x02a"))
		checkResult(t, "a schema that comes later", d, err, `"a"`, "")
	})
}

// TestUnknownSchema believes an answer ErrNotFound for a minute.
func TestUnknownSchema(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := &testSource{get: unknown}
		f, _ := newTestFormat(t, source)
		defer f.registry.Close()
		began, woken := time.Now(), make(chan time.Time, 1)
		f.Ready(framed(1, ""), func() { woken <- time.Now() })
		time.Sleep(30 * time.Second)
		if took := (<-woken).Sub(began); took < 2*time.Second || took > 3*time.Second {
			t.Errorf("woken after %v, want 2 to 3 s", took)
		}
		d, err := f.Decode(framed(1, ""))
		checkResult(t, "an unknown schema", d, err, "", ReasonUnknownSchema)
		if n := source.requests(); n != 4 || !f.Ready(framed(1, ""), nil) {
			t.Errorf("%d requests, want 4 and a definite answer", n)
		}
		source.set(found)
		time.Sleep(time.Minute)
		if f.Ready(framed(1, ""), nil) {
			t.Error("the answer is believed for longer than a minute")
		}
		if _, err := f.Decode(framed(1, "")); errors.Is(err, ErrNotReady) {
			t.Error("a record that was ready is not ready any more")
		}
		synctest.Wait()
		d, err = f.Decode(framed(1, "\x02a"))
		checkResult(t, "a schema that is there at last", d, err, `"a"`, "")
	})
}

// TestBadSchemaStays asks for a schema that cannot be used no more than every 10 minutes, because its text cannot change.
func TestBadSchemaStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := &testSource{get: func(string) (string, error) { return `{"schema":"{"}`, nil }}
		f, _ := newTestFormat(t, source)
		defer f.registry.Close()
		for range 60 {
			f.Ready(framed(1, ""), nil)
			time.Sleep(30 * time.Second)
			d, err := f.Decode(framed(1, ""))
			checkResult(t, "a bad schema", d, err, "", ReasonBadSchema)
		}
		if n := source.requests(); n != 3 {
			t.Errorf("%d requests in 30 minutes, want 3", n)
		}
	})
}

// TestRandomIDs decodes a topic full of random ids: the registry gets a bounded number of requests, other routes still ask,
// and the topic is not stopped for longer than seconds.
func TestRandomIDs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := &testSource{get: unknown}
		f, _ := newTestFormat(t, source)
		defer f.registry.Close()
		other := newRegistryFormat(f.registry)
		began := time.Now()
		for id := range uint32(20_000) {
			r := framed(id, "")
			if !f.Ready(r, nil) {
				for !f.Ready(r, nil) {
					time.Sleep(time.Millisecond)
				}
			}
			if _, err := f.Decode(r); err == nil || errors.Is(err, ErrNotReady) {
				t.Fatalf("id %d: %v", id, err)
			}
		}
		if took := time.Since(began); took > 30*time.Second {
			t.Errorf("20,000 random ids took %v", took)
		}
		if n := source.requests(); n > 1200 {
			t.Errorf("%d requests", n)
		}
		source.set(found)
		other.Ready(framed(1<<30, ""), nil)
		synctest.Wait()
		d, err := other.Decode(framed(1<<30, "\x02a"))
		checkResult(t, "another route", d, err, `"a"`, "")
	})
}

// TestRegistryAway waits for a registry that does not answer, however long, and logs it once a minute. When it answers,
// all records are ready at once.
func TestRegistryAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := &testSource{get: away}
		f, log := newTestFormat(t, source)
		defer f.registry.Close()
		const ids = 50
		woken := make(chan uint32, ids)
		for id := range uint32(ids) {
			f.Ready(framed(id, ""), func() { woken <- id })
		}
		time.Sleep(10 * time.Minute)
		if len(woken) > 0 || f.registry.Err() == nil || !errors.Is(f.registry.Err(), errAway) {
			t.Errorf("%d woken without an answer; Err is %v", len(woken), f.registry.Err())
		}
		if n := source.requests(); n < 100 || n > 1300 {
			t.Errorf("%d requests in 10 minutes, want at most 2 a second", n)
		}
		if lines := strings.Count(log.String(), "schema registry did not answer"); lines < 9 || lines > 11 {
			t.Errorf("%d lines in 10 minutes:\n%s", lines, log.String())
		}
		if up := testutil.ToFloat64(f.registry.metrics.up); up != 0 {
			t.Error("the metric says that the registry is up")
		}
		source.set(found)
		time.Sleep(1100 * time.Millisecond)
		if len(woken) != ids || f.registry.Err() != nil || !strings.Contains(log.String(), "schema registry answers") {
			t.Errorf("%d of %d woken 1.1 s after the registry answers; Err is %v", len(woken), ids, f.registry.Err())
		}
	})
}

// TestOneBadSchema does not stop other schemas when the registry fails for one of them.
func TestOneBadSchema(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := &testSource{get: func(path string) (string, error) {
			if path == "/schemas/ids/1" {
				return away(path)
			}
			return found(path)
		}}
		f, _ := newTestFormat(t, source)
		defer f.registry.Close()
		f.Ready(framed(1, ""), nil)
		time.Sleep(time.Hour)
		for id := range uint32(100) {
			began := time.Now()
			r := framed(id+2, "")
			for !f.Ready(r, nil) {
				time.Sleep(10 * time.Millisecond)
			}
			if took := time.Since(began); took > 1100*time.Millisecond {
				t.Errorf("schema %d took %v", id+2, took)
			}
		}
	})
}

// TestReferences asks for the schemas that a schema refers to, within bounds.
func TestReferences(t *testing.T) {
	const tooMany = 1 << 30
	chain := func(length int) func(string) (string, error) {
		return func(path string) (string, error) {
			var n int
			_, _ = fmt.Sscanf(path, "/subjects/s%d/versions/1?deleted=true", &n)
			if n == length {
				return fmt.Sprintf(`{"schema":"{\"type\":\"fixed\",\"name\":\"R%d\",\"size\":1}"}`, n), nil
			}
			return fmt.Sprintf(`{"schema":"{\"type\":\"record\",\"name\":\"R%d\",\"fields\":[{\"name\":\"a\",\"type\":\"R%d\"}]}","references":[{"name":"R%d","subject":"s%d","version":1}]}`, n, n+1, n+1, n+1), nil
		}
	}
	for name, c := range map[string]struct {
		get          func(string) (string, error)
		want, reason string
	}{
		"a chain":          {get: chain(3), want: `{"a":{"a":{"a":"x"}}}`},
		"a chain too long": {get: chain(tooMany), reason: ReasonBadSchema},
		"a circle": {get: func(string) (string, error) {
			return `{"schema":"\"R\"","references":[{"name":"R","subject":"s","version":1}]}`, nil
		}, reason: ReasonBadSchema},
		"many": {get: func(string) (string, error) {
			return `{"schema":"\"int\"","references":[` + manyReferences() + `]}`, nil
		}, reason: ReasonBadSchema},
		"a schema too long": {get: func(string) (string, error) { return `{"schema":"` + strings.Repeat(" ", maxSchemaText) + `1"}`, nil }, reason: ReasonBadSchema},
		"unknown": {get: func(path string) (string, error) {
			if strings.HasPrefix(path, "/schemas") {
				return chain(3)(path)
			}
			return unknown(path)
		}, reason: ReasonUnknownSchema},
		"another type": {get: func(string) (string, error) { return `{"schema":"x","schemaType":"THRIFT"}`, nil }, reason: ReasonBadSchema},
	} {
		synctest.Test(t, func(t *testing.T) {
			source := &testSource{get: c.get}
			f, _ := newTestFormat(t, source)
			defer f.registry.Close()
			f.Ready(framed(1, ""), nil)
			time.Sleep(10 * time.Second)
			d, err := f.Decode(framed(1, "x"))
			checkResult(t, name, d, err, c.want, c.reason)
			if n := source.requests(); n > maxReferences+1 {
				t.Errorf("%s: %d requests", name, n)
			}
		})
	}
}

func manyReferences() string {
	var list []string
	for i := range maxReferences + 1 {
		list = append(list, fmt.Sprintf(`{"name":"r%d","subject":"s","version":%d}`, i, i))
	}
	return strings.Join(list, ",")
}

// TestForgetting keeps the schemas in use when there are too many.
func TestForgetting(t *testing.T) {
	source := &testSource{get: found}
	f, _ := newTestFormat(t, source)
	r := f.registry
	for id := range uint32(3 * maxEntries / 2) {
		e := r.findOrAdd(schemaKey{id: id})
		if id%3 == 0 {
			r.setAnswer(e, newRefusal(&Error{}, time.Minute))
		} else {
			r.setAnswer(e, &answer{schema: jsonSchema{}, cost: schemaCost(100)})
		}
		if f.findEntry(schemaKey{id: 1}) == nil && id > 0 {
			t.Fatalf("after %d schemas, the registry has forgotten one that is in use", id)
		}
	}
	if n := len(r.entries); n > maxEntries {
		t.Errorf("%d entries", n)
	}
	for id := range uint32(10) {
		r.setAnswer(r.findOrAdd(schemaKey{id: 1<<20 + id}), &answer{schema: jsonSchema{}, cost: maxCost / 4})
		if r.cost > maxCost {
			t.Errorf("schemas of %d bytes are kept", r.cost)
		}
	}
}
