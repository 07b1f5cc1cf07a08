package demo

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode"
)

var discard = slog.New(slog.DiscardHandler)

// producer keeps the messages that it receives, or fails.
type producer struct {
	mu       sync.Mutex
	messages []Message
	fail     error
}

func (p *producer) Produce(_ context.Context, m Message) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fail != nil {
		return p.fail
	}
	p.messages = append(p.messages, m)
	return nil
}

func (p *producer) setFail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fail = err
}

// reports returns the progress produced so far.
func (p *producer) reports(t *testing.T) []progress {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	var reports []progress
	for _, m := range p.messages {
		if m.User != "alice" || m.Type != "task-progress" {
			t.Errorf("message for %q of type %q, want alice and task-progress", m.User, m.Type)
		}
		var r progress
		if err := json.Unmarshal(m.Value, &r); err != nil {
			t.Fatalf("value %s: %v", m.Value, err)
		}
		reports = append(reports, r)
	}
	return reports
}

// checkName has the rules that the server passes.
func checkName(name string) error {
	if name == "" || len(name) > 256 || strings.ContainsFunc(name, unicode.IsControl) {
		return errors.New("not allowed")
	}
	return nil
}

func post(t *testing.T, e http.Handler, contentType, body string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/demo/tasks", strings.NewReader(body))
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	w := httptest.NewRecorder()
	e.ServeHTTP(w, r)
	return w
}

const goodTask = `{"user":"alice","name":"Quarterly report","seconds":3}`

// startTask starts goodTask and returns its id.
func startTask(t *testing.T, e http.Handler) string {
	t.Helper()
	w := post(t, e, "application/json", goodTask)
	var answer struct{ Task string }
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || w.Code != http.StatusAccepted || answer.Task == "" {
		t.Fatalf("POST /demo/tasks = %d %s, want 202 and the task's id", w.Code, w.Body)
	}
	return answer.Task
}

func TestTaskReportsUpToComplete(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &producer{}
		d := New(p, checkName, false, discard)
		id := startTask(t, newServer(d))
		time.Sleep(4 * time.Second)
		d.Close()

		reports := p.reports(t)
		if len(reports) != 13 { // queued, then four a second
			t.Errorf("%d reports, want 13", len(reports))
		}
		steps := map[string]bool{}
		for i, r := range reports {
			if r.Task != id || r.Name != "Quarterly report" || r.Seq != i+1 || r.Time.IsZero() {
				t.Errorf("report %d = %+v, want task %s, its name, number %d and a time", i, r, id, i+1)
			}
			if i > 0 && r.Percent <= reports[i-1].Percent {
				t.Errorf("report %d: %d %% after %d %%, want more", i, r.Percent, reports[i-1].Percent)
			}
			steps[r.Step] = true
		}
		first, last := reports[0], reports[len(reports)-1]
		if first.State != "queued" || first.Percent != 0 {
			t.Errorf("first report = %+v, want queued at 0 %%", first)
		}
		if last.State != "complete" || last.Percent != 100 {
			t.Errorf("last report = %+v, want complete at 100 %%", last)
		}
		for _, step := range []string{"Collecting data", "Rendering charts", "Writing PDF"} {
			if !steps[step] {
				t.Errorf("no report of the step %q", step)
			}
		}
	})
}

func TestCloseCancelsTasks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &producer{}
		d := New(p, checkName, false, discard)
		e := newServer(d)
		startTask(t, e)
		time.Sleep(time.Second + progressInterval/2)
		d.Close()
		d.Close()

		reports := p.reports(t)
		last := reports[len(reports)-1]
		if last.State != "cancelled" || last.Percent != 33 {
			t.Errorf("last report = %+v, want cancelled at 33 %%", last)
		}
		if w := post(t, e, "application/json", goodTask); w.Code != http.StatusServiceUnavailable {
			t.Errorf("POST after Close = %d %s, want 503", w.Code, w.Body)
		}
	})
}

func TestKafkaAwayForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &producer{}
		d := New(p, checkName, false, discard)
		startTask(t, newServer(d))
		time.Sleep(time.Second + progressInterval/2)
		p.setFail(errors.New("broker away"))
		time.Sleep(10 * time.Second)
		p.setFail(nil)
		time.Sleep(time.Second)
		d.Close()

		reports := p.reports(t)
		last := reports[len(reports)-1]
		if last.State != "complete" || last.Seq != len(reports) {
			t.Errorf("last of %d reports = %+v, want complete and numbers without a hole", len(reports), last)
		}
	})
}

func TestKafkaAwayForGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &producer{}
		d := New(p, checkName, false, discard)
		startTask(t, newServer(d))
		p.setFail(errors.New("broker away"))
		time.Sleep(2 * giveUpAfter)
		synctest.Wait()
		if len(d.running) != 0 {
			t.Errorf("%d tasks still running, want the task given up", len(d.running))
		}
		d.Close()
	})
}

func TestTaskRefusedWhenKafkaIsAway(t *testing.T) {
	d := New(&producer{fail: errors.New("broker at secret-host away")}, checkName, false, discard)
	defer d.Close()
	w := post(t, newServer(d), "application/json", goodTask)
	if w.Code != http.StatusServiceUnavailable || strings.Contains(w.Body.String(), "secret-host") {
		t.Errorf("POST = %d %s, want 503 without the cause", w.Code, w.Body)
	}
	if len(d.running) != 0 {
		t.Errorf("%d tasks running, want none", len(d.running))
	}
}

// TestTooManyTasks expects that one user reaches a limit before all users together reach theirs.
func TestTooManyTasks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		by := "mallory"
		d := New(&producer{}, checkName, true, discard)
		defer d.Close()
		e := newServerFor(d, func() string { return by })
		refused := func() {
			t.Helper()
			w := post(t, e, "application/json", goodTask)
			if w.Code != http.StatusTooManyRequests || errorCode(t, w) != "too-many-tasks" {
				t.Errorf("POST = %d %s, want 429 too-many-tasks", w.Code, w.Body)
			}
		}
		for range maxOwn {
			startTask(t, e)
		}
		refused()
		for n := maxOwn; n < maxRunning; n++ {
			by = strconv.Itoa(n)
			startTask(t, e)
		}
		by = "late"
		refused()
		time.Sleep(4 * time.Second)
		startTask(t, e) // the others are complete
		by = "mallory"
		startTask(t, e)
	})
}

// TestEveryUserHasTasks starts tasks for users whose names cannot be a part of a topic's name.
func TestEveryUserHasTasks(t *testing.T) {
	for _, user := range []string{"alice@example.com", "auth0|5", "日本", "a b/c", "o'neill", strings.Repeat("a", 256)} {
		synctest.Test(t, func(t *testing.T) {
			p := &producer{}
			d := New(p, checkName, false, discard)
			body, err := json.Marshal(taskRequest{User: user, Name: "x", Seconds: 1})
			if err != nil {
				t.Fatal(err)
			}
			w := post(t, newServer(d), "application/json", string(body))
			d.Close()
			if w.Code != http.StatusAccepted || len(p.messages) == 0 || p.messages[0].User != user {
				t.Errorf("%q: POST = %d %s, %d messages, want 202 and messages for the user", user, w.Code, w.Body, len(p.messages))
			}
		})
	}
}

func errorCode(t *testing.T, w *httptest.ResponseRecorder) string {
	t.Helper()
	var answer struct {
		Error struct{ Code, Message string }
	}
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || answer.Error.Message == "" {
		t.Fatalf("answer %s: want JSON with an error code and message", w.Body)
	}
	return answer.Error.Code
}

func TestTaskRequestChecked(t *testing.T) {
	const jsonType = "application/json"
	long := strings.Repeat("a", 129)
	tests := map[string]struct {
		contentType, body string
		status            int
		code              string
	}{
		"no content type":     {"", goodTask, 415, "content-type"},
		"form content type":   {"text/plain", goodTask, 415, "content-type"},
		"empty body":          {jsonType, ``, 400, "json"},
		"not JSON":            {jsonType, `user=alice`, 400, "json"},
		"unknown field":       {jsonType, `{"user":"alice","name":"x","seconds":1,"admin":true}`, 400, "json"},
		"second value":        {jsonType, goodTask + `{}`, 400, "json"},
		"fraction":            {jsonType, `{"user":"alice","name":"x","seconds":1.5}`, 400, "json"},
		"too large":           {jsonType, `{"user":"alice","name":"` + strings.Repeat("x", maxBody) + `","seconds":1}`, 413, "too-large"},
		"too large, after":    {jsonType, goodTask + strings.Repeat(" ", maxBody), 413, "too-large"},
		"no user":             {jsonType, `{"name":"x","seconds":1}`, 400, "invalid"},
		"user not in UTF-8":   {jsonType, `{"user":"a` + "\xff" + `","name":"x","seconds":1}`, 400, "invalid"},
		"user with newline":   {jsonType, `{"user":"alice\n","name":"x","seconds":1}`, 400, "invalid"},
		"user too long":       {jsonType, `{"user":"` + long + long + `","name":"x","seconds":1}`, 400, "invalid"},
		"blank name":          {jsonType, `{"user":"alice","name":"  ","seconds":1}`, 400, "invalid"},
		"name too long":       {jsonType, `{"user":"alice","name":"` + long + `","seconds":1}`, 400, "invalid"},
		"name with a control": {jsonType, `{"user":"alice","name":"a\u0000b","seconds":1}`, 400, "invalid"},
		"no seconds":          {jsonType, `{"user":"alice","name":"x"}`, 400, "invalid"},
		"negative seconds":    {jsonType, `{"user":"alice","name":"x","seconds":-1}`, 400, "invalid"},
		"too many seconds":    {jsonType, `{"user":"alice","name":"x","seconds":121}`, 400, "invalid"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			p := &producer{}
			d := New(p, checkName, false, discard)
			defer d.Close()
			w := post(t, newServer(d), test.contentType, test.body)
			if code := errorCode(t, w); w.Code != test.status || code != test.code {
				t.Errorf("POST = %d %s, want %d %s", w.Code, code, test.status, test.code)
			}
			if len(p.messages) != 0 {
				t.Errorf("%d messages produced, want none", len(p.messages))
			}
		})
	}
}
