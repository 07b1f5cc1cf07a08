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
	// giveUpAfter is how long after a task's end the worker still tries to produce its
	// progress.
	giveUpAfter   = time.Minute
	cancelTimeout = time.Second

	maxRunning = 32 // running tasks of all users together
	maxOwn     = 8  // running tasks of one user, or of one address if nobody signs in
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
	Seq     int       `json:"seq"` // 1, 2, 3 … within the task: shows a lost or repeated record
	Time    time.Time `json:"time"`
}

// task pretends to generate a report.
type task struct {
	user     string
	duration time.Duration
	report   progress // the next record
}

// start produces the first record of the task and leaves the rest to a goroutine
// that Close waits for. So a task is accepted only if Kafka accepts its first
// record. by is the user or the address that starts the task. start returns the
// task's id, or errTooManyTasks or errClosed if it refuses the task.
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

// claim adds the task to the running tasks, if their number allows it.
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

// release removes the task from the running tasks.
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
			d.produceCancelled(ctx, t)
			return
		case <-ticker.C:
		}
		elapsed := time.Since(started)
		t.advance(elapsed)
		// Close does not interrupt a record under way: nobody could say whether its
		// number was used.
		err := d.produce(context.WithoutCancel(ctx), t)
		switch {
		case err == nil && t.report.State == stateComplete:
			return
		case err == nil:
			failing = false
		case elapsed > t.duration+giveUpAfter:
			d.log.ErrorContext(ctx, "task given up: Kafka does not accept its progress", "task", t.report.Task, "error", err)
			return
		case !failing:
			failing = true
			d.log.WarnContext(ctx, "producing task progress failed; retrying", "task", t.report.Task, "error", err)
		}
	}
}

// produceCancelled produces the task's last record, which says that the task was
// cancelled.
func (d *Demo) produceCancelled(ctx context.Context, t *task) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cancelTimeout)
	defer cancel()
	t.report.State = stateCancelled
	t.report.Step = "Cancelled: the server stopped"
	if err := d.produce(ctx, t); err != nil {
		d.log.WarnContext(ctx, "producing the cancellation of a task failed", "task", t.report.Task, "error", err)
	}
}

// produce writes the task's next record. If Kafka does not accept it, the next try
// uses the same number.
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

// advance sets the report's state, percentage and step. The task has run for the time elapsed.
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
