package integration

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"
)

// TestPollingExamples runs the two examples of PROTOCOL.md as they stand there, again and again, while records arrive
// and Herald restarts. What they print is each record once and in order.
func TestPollingExamples(t *testing.T) {
	t.Parallel()
	b := devBroker(t)
	secret := []byte("a secret of the test, 32 bytes+++")
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, secret, 0o600); err != nil {
		t.Fatal(err)
	}
	h := newProcess(t, "serve", "--brokers="+b.addresses[0], "--group="+topicName(t, "group"), "--replica=test", "--topic=notifications", "--jwt-secret-file="+file)
	h.Start()
	for _, example := range pollingExamples {
		t.Run(example.language, func(t *testing.T) {
			user := "user-of-" + example.language
			token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"sub": user, "exp": time.Now().Add(time.Hour).Unix()}).SignedString(secret)
			if err != nil {
				t.Fatal(err)
			}
			run := example.runner(t, "http://"+h.public, token)
			var want []string
			write := func() {
				value := fmt.Sprintf(`{"n":%d,"text":"\"quoted\" and ü"}`, len(want))
				b.produce(t, record("notifications", "somebody else", value), record("notifications", user, value))
				want = append(want, "message "+value)
			}
			write()
			run.until(t, 1)
			for i := range 4 {
				write()
				write()
				if i == 2 {
					h.End(os.Interrupt)
					write()
					run.fails(t)
					h.Start()
				}
				run.until(t, len(want))
			}
			if diff := cmp.Diff(want, run.printed); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestPollingExamplesOnBadAnswers gives the two examples answers that a server or a proxy may give. An example stops
// only when it has everything. Otherwise it fails and says why, and never loses its place.
func TestPollingExamplesOnBadAnswers(t *testing.T) {
	for name, test := range map[string]struct {
		status  int
		answers []string // the last one is for all later requests
		out     string
		failure string // nothing: the example succeeds
		place   string
	}{
		"more is there": {
			200, []string{
				`{"events":[{"id":"1","type":"message","data":"one"}],"lastEventId":"1","live":false}`,
				`{"events":[{"id":"2","type":"message","data":"two"}],"lastEventId":"2","live":true}`,
			}, "message one\nmessage two\n", "", "2",
		},
		"Kafka does not answer":    {200, []string{`{"events":[],"lastEventId":"0","live":false}`}, "", "Kafka", "0"},
		"a page of a proxy":        {200, []string{"<p>Please sign in.</p>"}, "", "line 1", "0"},
		"an answer without a body": {200, []string{""}, "", "rror", "0"},
		"a token that has expired": {401, []string{`{"error":{"message":"the token has expired"}}`}, "", "the token has expired", "0"},
		"a proxy's error":          {502, []string{"<p>Bad Gateway</p>"}, "", "502", "0"},
	} {
		for _, example := range pollingExamples {
			t.Run(name+"/"+example.language, func(t *testing.T) {
				requests := 0
				server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					w.WriteHeader(test.status)
					_, _ = io.WriteString(w, test.answers[min(requests, len(test.answers)-1)])
					requests++
				}))
				defer server.Close()
				run := example.runner(t, server.URL, "token")
				place := filepath.Join(run.directory, "last-id")
				if err := os.WriteFile(place, []byte("0"), 0o600); err != nil {
					t.Fatal(err)
				}
				out, err := run.run(t)
				failure := ""
				if exit, ok := errors.AsType[*exec.ExitError](err); ok {
					failure = string(exit.Stderr)
				}
				if (err != nil) != (test.failure != "") || !strings.Contains(failure, test.failure) || out != test.out {
					t.Errorf("it prints %q, error %v %q; want %q and an error with %q", out, err, failure, test.out, test.failure)
				}
				if got, err := os.ReadFile(place); strings.TrimSpace(string(got)) != test.place { //nolint:gosec // a file of this test
					t.Errorf("it keeps the place %q, %v; want %q", got, err, test.place)
				}
			})
		}
	}
}

// pollingExample is an example of PROTOCOL.md that polls.
type pollingExample struct {
	language string
	needs    []string
	command  []string
}

var pollingExamples = []pollingExample{
	{"sh", []string{"curl", "jq"}, []string{"sh", "-c"}},
	{"python", []string{"python3"}, []string{"python3", "-c"}},
}

// runner returns what runs the example as it stands in PROTOCOL.md.
func (e *pollingExample) runner(t *testing.T, server, token string) exampleRunner {
	t.Helper()
	for _, program := range e.needs {
		if _, err := exec.LookPath(program); err != nil {
			notTested(t, requireLanguages, "no "+program+": an example of PROTOCOL.md is not tested")
		}
	}
	return exampleRunner{
		directory: t.TempDir(), command: append(slices.Clone(e.command), codeBlock(t, "../stream/PROTOCOL.md", e.language)),
		env: append(os.Environ(), "TOKEN="+token, "HERALD="+server),
	}
}

// exampleRunner runs an example and keeps the lines that it has printed.
type exampleRunner struct {
	directory string
	command   []string
	env       []string
	printed   []string
}

func (e *exampleRunner) run(t *testing.T) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	command := exec.CommandContext(ctx, e.command[0], e.command[1:]...)
	command.Dir, command.Env = e.directory, e.env
	out, err := command.Output()
	return string(out), err
}

// until runs the example until it has printed that many lines in all.
func (e *exampleRunner) until(t *testing.T, lines int) {
	t.Helper()
	for deadline := time.Now().Add(2 * patience); len(e.printed) < lines; {
		out, err := e.run(t)
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			if strings.Contains(string(exit.Stderr), "Herald waits for Kafka") && time.Now().Before(deadline) {
				continue // a busy machine
			}
			t.Fatalf("%v\n%s", err, exit.Stderr)
		}
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("%v, %d of %d lines: %q", err, len(e.printed), lines, e.printed)
		}
		e.printed = append(e.printed, strings.FieldsFunc(out, func(c rune) bool { return c == '\n' })...)
	}
}

// fails runs the example while Herald is down. It must fail, print nothing, and keep its place.
func (e *exampleRunner) fails(t *testing.T) {
	t.Helper()
	if out, err := e.run(t); err == nil || out != "" {
		t.Errorf("without Herald the example prints %q, error %v", out, err)
	}
}

// TestPollsOnKafka polls Apache Kafka from two replicas in turn, as an event stream and as JSON, while records of
// several topics arrive and one replica restarts.
func TestPollsOnKafka(t *testing.T) {
	t.Parallel()
	b := sharedBroker(t)
	shared, all := b.newTopic(t, "shared", 3), b.newTopic(t, "all", 2)
	topics := "--topic=" + shared + ";" + all + ",kind=broadcast"
	replicas := []*herald{startHerald(t, b, topics), startHerald(t, b, topics)}
	for _, accept := range []string{"text/event-stream", "application/json", "application/x-ndjson"} {
		t.Run(strings.ReplaceAll(accept, "/", "-"), func(t *testing.T) {
			_, lastID := pollOnce(t, replicas[0], accept, "wait=0", "")
			waitFor(t, "the first id", func(context.Context) bool {
				_, id := pollOnce(t, replicas[1], accept, "wait=0", lastID)
				lastID = id
				return id != ""
			})
			var want, got []string
			poll := func(i int, query string) {
				values, id := pollOnce(t, replicas[i%2], accept, query, lastID)
				lastID = id
				for _, value := range values {
					if strings.HasPrefix(value, accept) {
						got = append(got, value)
					}
				}
			}
			for i := range 30 {
				value := fmt.Sprintf("%s %03d", accept, i)
				if topic := []string{shared, all}[i%2]; topic == shared {
					b.produce(t, record(shared, "bob", "bob's"), record(shared, "alice", value))
				} else {
					b.produce(t, record(all, "", value))
				}
				want = append(want, value)
				if i == 15 {
					replicas[0].End(os.Interrupt)
					replicas[0].Start()
				}
				if i%3 == 0 {
					poll(i, "wait=0&limit=2")
				}
			}
			for i := 0; len(got) < len(want) && i < 100; i++ {
				poll(i, "wait=1s&limit=3")
			}
			poll(0, "wait=1s")
			slices.Sort(got) // topics and partitions have no common order
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// pollOnce sends one poll and returns the data of its records and the id to continue from.
func pollOnce(t *testing.T, h *herald, accept, query, lastID string) (values []string, id string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+h.public+"/events?user=alice&"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", accept)
	req.Header.Set("Last-Event-ID", lastID)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v: %s", query, res.Status, err, text)
	}
	switch accept {
	case "application/json":
		var answer struct {
			Events      []event
			LastEventID string
		}
		if err := json.Unmarshal(text, &answer); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		return valuesOf(answer.Events), answer.LastEventID
	case "application/x-ndjson":
		var events []event
		for line := range strings.Lines(string(text)) {
			if line == "\n" { // a heartbeat
				continue
			}
			var e event
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				t.Fatalf("%v: %s", err, line)
			}
			events = append(events, e)
		}
		return valuesOf(events), events[len(events)-1].ID
	}
	events := eventReader{r: bufio.NewReader(bytes.NewReader(text))}
	var all []event
	for e, err := events.next(); err == nil; e, err = events.next() {
		all = append(all, e)
	}
	return valuesOf(all), all[len(all)-1].ID
}

// valuesOf returns the data of the records among the events.
func valuesOf(events []event) (values []string) {
	for _, e := range events {
		if e.Type == "message" {
			values = append(values, e.Data)
		}
	}
	return values
}
