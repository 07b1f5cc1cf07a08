package demo

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

const (
	progressType = "task-progress"

	progressInterval = 250 * time.Millisecond
	produceTimeout   = 2 * time.Second
	// A task that Kafka does not take for this long past its end is given up.
	giveUpAfter   = time.Minute
	cancelTimeout = time.Second

	maxRunning = 32 // tasks at a time, all users together
	maxOwn     = 8  // of those who start them, each: a user, or an address where nobody signs in
)

// The states of a task. Complete and cancelled are final.
const (
	stateQueued    = "queued"
	stateRunning   = "running"
	stateComplete  = "complete"
	stateCancelled = "cancelled" // the server stopped
)

var (
	errTooManyTasks = errors.New("too many tasks are running")
	errClosed       = errors.New("the server is stopping")
)

// progress is the value of a task-progress record, as JSON.
type progress struct {
	Task    string    `json:"task"`
	Name    string    `json:"name"`
	Step    string    `json:"step"`
	Percent int       `json:"percent"`
	State   string    `json:"state"`
	Seq     int       `json:"seq"` // 1, 2, 3 … within the task: tells a lost or repeated record
	Time    time.Time `json:"time"`
}

// task is a report being generated, as far as anyone can tell.
type task struct {
	user     string
	duration time.Duration
	report   progress // the next record
}

// start produces the first record of the task, so that a task is accepted only
// if Kafka takes it, and leaves the rest to a goroutine that Close waits for.
// by is who asks. It returns the task's id; errTooManyTasks and errClosed are refusals.
func (d *Demo) start(ctx context.Context, by string, r taskRequest) (string, error) {
	t := &task{
		user:     r.User,
		duration: time.Duration(r.Seconds) * time.Second,
		report: progress{
			Task:  strings.ToLower(rand.Text()[:12]), // 60 random bits
			Name:  r.Name,
			Step:  "Waiting to start",
			State: stateQueued,
			Seq:   1,
		},
	}
	id := t.report.Task

	// The task outlives its request.
	workerCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	if err := d.claim(id, running{by, cancel}); err != nil {
		cancel()
		return "", err
	}
	if err := d.produce(ctx, t); err != nil {
		d.release(id)
		return "", err
	}
	go func() {
		defer d.release(id)
		d.run(workerCtx, t)
	}()
	return id, nil
}

// claim takes a place among the running tasks.
func (d *Demo) claim(id string, r running) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return errClosed
	}
	own := 0
	for _, other := range d.running {
		if other.by == r.by {
			own++
		}
	}
	if own >= maxOwn || len(d.running) >= maxRunning {
		return errTooManyTasks
	}
	d.running[id] = r
	d.workers.Add(1)
	return nil
}

// release gives the place back.
func (d *Demo) release(id string) {
	d.mu.Lock()
	cancel := d.running[id].cancel
	delete(d.running, id)
	d.mu.Unlock()
	cancel()
	d.workers.Done()
}

// run produces the task's progress until it is complete or ctx ends.
func (d *Demo) run(ctx context.Context, t *task) {
	ticker := time.NewTicker(progressInterval)
	defer ticker.Stop()
	started := time.Now()
	failing := false
	for {
		select {
		case <-ctx.Done():
			d.cancelled(ctx, t)
			return
		case <-ticker.C:
		}
		elapsed := time.Since(started)
		t.advance(elapsed)
		// Not cut short by Close: a record whose fate is unknown would leave
		// its number in doubt.
		err := d.produce(context.WithoutCancel(ctx), t)
		switch {
		case err == nil && t.report.State == stateComplete:
			return
		case err == nil:
			failing = false
		case elapsed > t.duration+giveUpAfter:
			d.log.ErrorContext(ctx, "task given up: Kafka does not take its progress", "task", t.report.Task, "error", err)
			return
		case !failing:
			failing = true
			d.log.WarnContext(ctx, "task progress not produced, trying again", "task", t.report.Task, "error", err)
		}
	}
}

// cancelled tells whoever watches the task that it will not go on.
func (d *Demo) cancelled(ctx context.Context, t *task) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cancelTimeout)
	defer cancel()
	t.report.State = stateCancelled
	t.report.Step = "Cancelled: the server stopped"
	if err := d.produce(ctx, t); err != nil {
		d.log.WarnContext(ctx, "task cancelled without a record of it", "task", t.report.Task, "error", err)
	}
}

// produce writes the task's next record. Its number is used up only if Kafka
// took it.
func (d *Demo) produce(ctx context.Context, t *task) error {
	ctx, cancel := context.WithTimeout(ctx, produceTimeout)
	defer cancel()
	t.report.Time = time.Now().UTC()
	value, err := json.Marshal(t.report)
	if err != nil {
		return fmt.Errorf("encode progress of task %s: %w", t.report.Task, err)
	}
	if err := d.producer.Produce(ctx, Message{User: t.user, Type: progressType, Value: value}); err != nil {
		return fmt.Errorf("produce progress of task %s: %w", t.report.Task, err)
	}
	t.report.Seq++
	return nil
}

// advance sets the report to what a task that has run for elapsed says.
func (t *task) advance(elapsed time.Duration) {
	r := &t.report
	r.State = stateRunning
	r.Percent = min(100, int(100*elapsed/t.duration))
	switch {
	case r.Percent < 40:
		r.Step = "Collecting data"
	case r.Percent < 75:
		r.Step = "Rendering charts"
	case r.Percent < 100:
		r.Step = "Writing PDF"
	default:
		r.State = stateComplete
		r.Step = "Report ready"
	}
}
