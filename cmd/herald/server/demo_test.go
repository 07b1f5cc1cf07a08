package server

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"herald/auth"
	"herald/consumer"
)

// TestDemoTasks starts tasks as the demo page does. Only the task of a user with the right to publish starts: the
// refused requests write no record.
func TestDemoTasks(t *testing.T) {
	s := startSecured(t, func(cfg *Config) { cfg.Demo = true })
	const task = `{"user":"alice","name":"Quarterly report","seconds":1}`
	jsonType := func(h http.Header) http.Header {
		h.Set("Content-Type", "application/json")
		return h
	}
	may := jsonType(bearer(s.token(t, auth.Identity{User: "alice", Publish: true})))
	mayNot := jsonType(bearer(s.token(t, auth.Identity{User: "bob"})))
	accepted := ""
	for _, test := range []struct {
		name   string
		header http.Header
		status int
		want   string
	}{
		{"no token", jsonType(http.Header{}), http.StatusUnauthorized, `"code":"invalid-token"`},
		{"no right to publish", mayNot, http.StatusForbidden, `"code":"may-not-publish"`},
		{"not JSON", bearer(s.token(t, auth.Identity{User: "alice", Publish: true})), http.StatusUnsupportedMediaType, `"code":"content-type"`},
		{"another site", jsonType(headers("Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site")), http.StatusForbidden, `"code":"foreign-origin"`},
		{"the right to publish", may, http.StatusAccepted, `"task":"`}, // last, so that a task of the others would have written records before
	} {
		status, _, body := send(t, http.MethodPost, s.url+"/demo/tasks", task, test.header)
		if status != test.status || !strings.Contains(body, test.want) {
			t.Errorf("%s: %d %s, want %d with %s", test.name, status, body, test.status, test.want)
		}
		accepted = body
	}
	wantRecordsOfTask(t, s, bearer(s.token(t, auth.Identity{User: "alice"})), accepted)
	if status, _, body := request(t, http.MethodGet, s.url+"/", nil); status != http.StatusOK || !strings.Contains(body, "<html data-sign-in ") {
		t.Errorf("GET /: %d %.100s, want the page that signs in", status, body)
	}
}

// TestDemoCondition asks without a token: the answer has no detail.
func TestDemoCondition(t *testing.T) {
	s := startSecured(t, func(cfg *Config) { cfg.Demo = true })
	check := func(want string) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			status, _, body := request(t, http.MethodGet, s.url+"/demo/condition", nil)
			if status == http.StatusOK && body == `{"condition":"`+want+`"}`+"\n" {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("GET /demo/condition: %d %s, want %s", status, body, want)
			}
		}
	}
	check("ready")
	s.draining.Store(true)
	check("not-ready")
	s.draining.Store(false)
	s.broker.Close()
	check("kafka-down")
}

// wantRecordsOfTask reads alice's records up to the end of the task that the answer names. All records are of
// that task.
func wantRecordsOfTask(t *testing.T, s *secured, header http.Header, answer string) {
	t.Helper()
	var started struct{ Task string }
	if err := json.Unmarshal([]byte(answer), &started); err != nil || started.Task == "" {
		t.Fatalf("answer %s, want a task (%v)", answer, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	events := openEvents(ctx, t, s.url+"/events?since=earliest&types=task-progress", header)
	for {
		e, err := events.Next()
		if err != nil {
			t.Fatalf("the task did not complete: %v", err)
		}
		if e.Type != "task-progress" {
			continue
		}
		var report struct{ Task, State string }
		if err := json.Unmarshal([]byte(e.Data), &report); err != nil || report.Task != started.Task {
			t.Errorf("record %s, want records of task %s only (%v)", e.Data, started.Task, err)
		}
		if report.Task == started.Task && report.State == "complete" {
			return
		}
	}
}

// TestDemoWithoutTopicOfUsers starts a task on a server that has only a topic for everyone. The answer must say what
// is missing, and not blame Kafka.
func TestDemoWithoutTopicOfUsers(t *testing.T) {
	srv, _ := startServerWith(t, func(cfg *Config) {
		cfg.Demo = true
		cfg.Consumer.Routes = []consumer.Route{{Topic: "announcements", Kind: consumer.Broadcast}}
	})
	status, _, body := send(t, http.MethodPost, "http://"+srv.Addr().String()+"/demo/tasks", `{"user":"alice","name":"x","seconds":1}`, headers("Content-Type", "application/json"))
	if status != http.StatusNotFound || !strings.Contains(body, `"code":"no-topic"`) || !strings.Contains(body, "--topic notifications") {
		t.Errorf("%d %s, want 404 and the flag", status, body)
	}
}
