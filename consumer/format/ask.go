package format

import (
	"context"
	"errors"
	"time"
)

// How the registry is asked again.
const (
	unknownFor = time.Minute      // how long the answer ErrNotFound is believed
	badFor     = 10 * time.Minute // how long a schema that cannot be used is not asked for: an id always has the same text
	firstPause = 250 * time.Millisecond
	maxPause   = 15 * time.Second
)

// lagPauses are the pauses after each answer ErrNotFound. A registry of several nodes may give it for a moment, because its
// followers read new schemas from a topic.
var lagPauses = []time.Duration{100 * time.Millisecond, 500 * time.Millisecond, 1500 * time.Millisecond}

// asker is the part that asks for a schema: the format of a route. It bounds the requests for schemas that do not exist.
type asker interface {
	// mayAskAgain reports whether a first answer ErrNotFound may be doubted.
	mayAskAgain() bool
	// noteUnknown counts a schema that does not exist.
	noteUnknown()
}

// maxAsking is how many schemas may be asked for at the same time before records that nobody waits for are not asked for any
// more. Each takes a goroutine, and live reading may come past millions of records with random ids before the registry
// answers.
const maxAsking = 1000

// isBusy reports whether no more schemas are asked for ahead.
func (r *Registry) isBusy() bool { return r.asking.Load() >= maxAsking }

// ask asks for a schema in a goroutine, unless one asks already, and calls wake when there is an answer. It returns true,
// and never calls wake, if there is an answer already.
func (r *Registry) ask(e *entry, by asker, wake func()) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.answer.Load().isDefinite() {
		return true
	}
	if wake != nil {
		e.wakes = append(e.wakes, wake)
	}
	if e.asking {
		return false
	}
	e.asking = true
	r.asking.Add(1)
	r.run(func(ctx context.Context) {
		defer r.asking.Add(-1)
		a := r.await(ctx, e.key, by)
		if a == nil {
			return // the registry is closed
		}
		r.setAnswer(e, a)
		e.mu.Lock()
		wakes := e.wakes
		e.asking, e.wakes = false, nil
		e.mu.Unlock()
		for _, wake := range wakes {
			wake()
		}
	})
	return false
}

// await asks for a schema until there is an answer. It returns nil when the context ends.
func (r *Registry) await(ctx context.Context, key schemaKey, by asker) *answer {
	lags, failures := 0, 0
	for r.contact.waitForTurn(ctx) {
		a, err := r.load(ctx, key)
		var pause time.Duration
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			r.contact.recordAnswer()
			return a
		case errors.Is(err, ErrNotFound):
			r.contact.recordAnswer()
			if lags == len(lagPauses) || lags == 0 && !by.mayAskAgain() {
				by.noteUnknown()
				return newRefusal(&Error{Reason: ReasonUnknownSchema, Schema: key.String(), Err: err}, unknownFor)
			}
			pause = lagPauses[lags]
			lags++
		default:
			r.contact.recordFailure(ctx, key, err)
			pause = min(firstPause<<min(failures, 10), maxPause)
			failures++
		}
		r.contact.sleep(ctx, pause)
	}
	return nil
}

// newRefusal returns an answer without a schema, which is believed for a time.
func newRefusal(err *Error, d time.Duration) *answer {
	return &answer{err: err, until: time.Now().Add(d)}
}

// load makes one request for a schema and the schemas that it refers to, when it is its turn. The answer has an error if
// the schema is there, but cannot be used.
func (r *Registry) load(ctx context.Context, key schemaKey) (*answer, error) {
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	s, cost, err := r.loader.load(ctx, key)
	r.metrics.recordRequest(err)
	if bad, ok := errors.AsType[*Error](err); ok {
		bad.Schema = key.String()
		return newRefusal(bad, badFor), nil
	}
	if err != nil {
		return nil, err
	}
	return &answer{schema: s, cost: cost}, nil
}
