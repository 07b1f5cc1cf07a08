package format

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Source asks a schema registry. The client in package herald/consumer/registry speaks HTTP.
type Source interface {
	// Get returns the body of the answer to a GET request. The error is, or wraps, [ErrNotFound] if the registry has no
	// such thing. After any other error, the same request may succeed later.
	Get(ctx context.Context, path string) ([]byte, error)
}

// ErrNotFound reports that a registry answered, and has no such schema.
var ErrNotFound = errors.New("the registry has no such schema")

// Bounds of a registry's memory.
const (
	maxEntries = 10_000
	maxCost    = 256 << 20 // of all schemas, in bytes as [schemaCost] estimates them
)

// Registry has the schemas of all formats of a server. It asks its source for each schema once, and forgets the schemas
// that were not used for the longest time when they become too many.
type Registry struct {
	contact *contact
	metrics *metrics
	loader  loader
	slots   chan struct{} // one element for each request under way
	run     func(work func(context.Context))
	stop    func()
	asking  atomic.Int64 // how many schemas are being asked for

	mu      sync.RWMutex
	entries map[schemaKey]*entry
	cost    int
	turn    atomic.Uint64 // the number of entries that were ever added: the clock of entry.used
}

// maxRequests is how many schemas a registry is asked for at the same time.
const maxRequests = 4

// NewRegistry returns a Registry that asks the source. The caller closes it. reg may be nil.
func NewRegistry(source Source, log *slog.Logger, reg prometheus.Registerer) *Registry {
	life, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	m := newMetrics(reg)
	return &Registry{
		contact: newContact(m, log),
		metrics: m,
		loader:  loader{source: source},
		slots:   make(chan struct{}, maxRequests),
		run:     func(work func(context.Context)) { running.Go(func() { work(life) }) },
		stop: func() {
			stop()
			running.Wait()
		},
		entries: make(map[schemaKey]*entry),
	}
}

// Close ends the requests under way, and waits for their goroutines. No wake is called after it. Ready and Decode must
// not be called at the same time or later.
func (r *Registry) Close() { r.stop() }

// Err returns why the registry does not answer; nil if it answered the last request, or was not asked yet.
func (r *Registry) Err() error { return r.contact.err() }

// entry is what a registry knows about one schema.
type entry struct {
	key    schemaKey
	answer atomic.Pointer[answer] // nil: none yet
	used   atomic.Uint64          // Registry.turn when the schema was used last

	mu     sync.Mutex
	asking bool     // a goroutine asks
	wakes  []func() // called when it has an answer
}

// answer is a schema, or the reason why there is none.
type answer struct {
	schema schema
	cost   int
	err    *Error    // nil: schema is set
	until  time.Time // when an error has to be asked again
}

// schema decodes the values of one schema.
type schema interface {
	// decode returns a JSON text, which may share the memory of the frame.
	decode(f *frame) ([]byte, error)
}

// isDefinite reports whether an answer needs no request now.
func (a *answer) isDefinite() bool { return a != nil && (a.err == nil || time.Now().Before(a.until)) }

// find returns the entry of a schema, or nil.
func (r *Registry) find(key schemaKey) *entry {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.entries[key]
}

// touch notes that an entry is used now.
func (r *Registry) touch(e *entry) {
	if now := r.turn.Load(); e.used.Load() != now {
		e.used.Store(now)
	}
}

// findOrAdd returns the entry of a schema, which is new if there was none.
func (r *Registry) findOrAdd(key schemaKey) *entry {
	if e := r.find(key); e != nil {
		return e
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.entries[key]
	if e == nil {
		r.makeRoomLocked(1)
		e = &entry{key: key}
		e.used.Store(r.turn.Add(1))
		r.entries[key] = e
	}
	return e
}

// setAnswer publishes the answer for an entry, and forgets others if they take too much memory.
func (r *Registry) setAnswer(e *entry, a *answer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := e.answer.Swap(a)
	if r.entries[e.key] == e { // it may have been forgotten meanwhile, when an answer had to be asked again
		if old != nil {
			r.cost -= old.cost
		}
		r.cost += a.cost
		r.makeRoomLocked(0)
	}
	r.metrics.schemas.Set(float64(len(r.entries)))
}

// makeRoomLocked forgets entries if some more have not enough room: first schemas that do not exist, then the schemas that
// were not used for the longest time. It forgets an eighth of them at once, because it looks at all. Entries that the
// registry is being asked about for the first time stay.
func (r *Registry) makeRoomLocked(more int) {
	if len(r.entries)+more <= maxEntries && r.cost <= maxCost {
		return
	}
	now := r.turn.Load()
	var candidates []*entry
	for _, e := range r.entries {
		if e.answer.Load() != nil && e.used.Load() < now {
			candidates = append(candidates, e)
		}
	}
	slices.SortFunc(candidates, func(a, b *entry) int {
		if isError := a.answer.Load().err != nil; isError != (b.answer.Load().err != nil) {
			if isError {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.used.Load(), b.used.Load())
	})
	for _, e := range candidates {
		if len(r.entries)+more <= maxEntries/8*7 && r.cost <= maxCost/8*7 {
			return
		}
		delete(r.entries, e.key)
		r.cost -= e.answer.Load().cost
	}
}
