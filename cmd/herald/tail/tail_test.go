package tail

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"herald/cmd/herald/visible"
)

// tailOf follows the stream at url until ctx ends or the server refuses it for good.
func tailOf(ctx context.Context, url string) (out, notes string, err error) {
	var o, n bytes.Buffer
	tl := newTailer(Config{
		Client: http.DefaultClient, URL: url, Token: func() (string, error) { return "", nil }, IdleTimeout: 10 * time.Second,
		IDs: true, Out: &o, Notes: &n,
	})
	tl.retry, tl.out.now = minRetry, func() time.Time { return time.Unix(0, 0).UTC() }
	err = tl.run(ctx)
	return o.String(), n.String(), err
}

// TestTailResumes cuts the stream in the middle of an event. The client must resume from the id of the
// last complete event and print the interrupted event once.
func TestTailResumes(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var asked []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Header.Get("Last-Event-ID"))
		w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
		switch len(asked) {
		case 1:
			fmt.Fprint(w, "retry: 100\n\nid: 1\ndata: one\n\nid: 2\ndata: tw")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		case 2:
			fmt.Fprint(w, ":\nretry: 100\n\n") // a proxy's substitute for a server that is down
		case 3:
			fmt.Fprint(w, "id: 2\ndata: two\n\n")
		default:
			cancel()
			<-r.Context().Done() // the client gets no answer
		}
	}))
	defer server.Close()
	out, notes, err := tailOf(ctx, server.URL)
	if err != nil {
		t.Fatalf("%v\n%s", err, notes)
	}
	want := "00:00:00.000 message 1 one\n00:00:00.000 message 2 two\n"
	if diff := cmp.Diff(want, out); diff != "" {
		t.Error(diff)
	}
	first, rest, _ := strings.Cut(notes, "\n")
	if want := "herald tail: following " + server.URL + " since now; Ctrl-C ends it"; first != want || strings.Count(rest, "herald tail: connected again\n") != 1 {
		t.Errorf("notes:\n%s\nwant first %q, and the new connection", notes, want)
	}
	if diff := cmp.Diff([]string{"", "1", "1", "2"}, asked); diff != "" {
		t.Error(diff)
	}
}

func TestTailStopsAtRefusals(t *testing.T) {
	for _, status := range []int{400, 401, 403, 404} {
		asked := 0
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			asked++
			w.WriteHeader(status)
			fmt.Fprint(w, `{"error":{"message":"because"}}`)
		}))
		_, _, err := tailOf(t.Context(), server.URL)
		server.Close()
		if err == nil || !strings.Contains(err.Error(), "because") || asked != 1 {
			t.Errorf("%d: %v after %d requests, want the server's reason after one", status, err, asked)
		}
	}
}

// TestTailShowsWhyATokenIsRefused wants the server's sentence. The advice to give a token follows only if there is
// none, or if the server is not Herald.
func TestTailShowsWhyATokenIsRefused(t *testing.T) {
	const advice = ": give a valid token with --token-file or HERALD_TOKEN"
	for body, want := range map[string]string{
		`{"error":{"reason":"expired","message":"the token has expired"}}`: "the server says 401 Unauthorized: the token has expired",
		`{"error":{"reason":"no-token","message":"the request has none"}}`: "the server says 401 Unauthorized: the request has none" + advice,
		"go\u200baway\x1b[2J": `the server says 401 Unauthorized: go\u200baway\x1b[2J` + advice,
		`go away`:             "the server says 401 Unauthorized: go away" + advice,
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, body)
		}))
		_, _, err := tailOf(t.Context(), server.URL)
		server.Close()
		if fmt.Sprint(err) != want {
			t.Errorf("%s: %v, want %s", body, err, want)
		}
	}
}

// TestTailPrintsIDsWhenAsked follows a stream of two events with and without ids.
func TestTailPrintsIDsWhenAsked(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Last-Event-ID") != "" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
		fmt.Fprint(w, "retry: 100\n\nid: 1\ndata: one\n\nid: 2\nevent: news\ndata: two\n\n")
	}))
	defer server.Close()
	for name, test := range map[string]struct {
		cfg       Config
		out, note string // note: the last one
	}{
		"text":     {Config{}, "00:00:00.000 message one\n00:00:00.000 news two\n", ""},
		"with ids": {Config{IDs: true}, "00:00:00.000 message 1 one\n00:00:00.000 news 2 two\n", "the last event id is 2; to continue after it add --last-event-id '2'"},
		"JSON": {
			Config{JSON: true},
			`{"time":"1970-01-01T00:00:00Z","type":"message","id":"1","data":"one"}` + "\n" + `{"time":"1970-01-01T00:00:00Z","type":"news","id":"2","data":"two"}` + "\n",
			"the last event id is 2; to continue after it add --last-event-id '2'",
		},
	} {
		t.Run(name, func(t *testing.T) {
			var out, notes bytes.Buffer
			cfg := test.cfg
			cfg.Client, cfg.URL, cfg.IdleTimeout, cfg.Out, cfg.Notes = http.DefaultClient, server.URL, 10*time.Second, &out, &notes
			cfg.Token = func() (string, error) { return "", nil }
			tl := newTailer(cfg)
			tl.out.now = func() time.Time { return time.Unix(0, 0).UTC() }
			_ = tl.run(t.Context()) // ends with the server's 403
			tl.noteEnd()
			if diff := cmp.Diff(test.out, out.String()); diff != "" {
				t.Error(diff)
			}
			if got := strings.Contains(notes.String(), "the last event id"); got != (test.note != "") || !strings.Contains(notes.String(), test.note) {
				t.Errorf("notes:\n%s\nwant %q", &notes, test.note)
			}
		})
	}
}

// TestTailSaysWhereItBegins wants the note at the start to have the address without secrets, and the start.
func TestTailSaysWhereItBegins(t *testing.T) {
	for name, test := range map[string]struct{ url, lastID, want string }{
		"now":           {"http://h/events?user=alice", "", "following http://h/events?user=alice since now; Ctrl-C ends it"},
		"claims":        {"http://h/events?user=alice&claim.team=red", "", "following http://h/events?claim.team=red&user=alice since now; Ctrl-C ends it"},
		"an age":        {"http://h/events?since=90m&types=a", "", "following http://h/events?types=a since 90m; Ctrl-C ends it"},
		"an id":         {"http://h/events?since=90m", "1~x", "following http://h/events since the last event id; Ctrl-C ends it"},
		"secrets":       {"http://u:secret@h/events?access_token=secret", "", "following http://u:xxxxx@h/events since now; Ctrl-C ends it"},
		"no characters": {"http://h/events?since=%1b", "", `since \x1b;`},
	} {
		var notes bytes.Buffer
		tl := newTailer(Config{URL: test.url, LastEventID: test.lastID, Notes: &notes})
		tl.noteOpened()
		if !strings.Contains(notes.String(), test.want) {
			t.Errorf("%s: %q, want %q", name, &notes, test.want)
		}
	}
}

// TestTailDoesNotFollowRedirects redirects to another server, with the token in the URL and in the header. The other
// server must get no request, and the error has the address and not the token.
func TestTailDoesNotFollowRedirects(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("the other server got %s with %v", r.URL, r.Header)
	}))
	defer other.Close()
	for _, status := range []int{301, 302, 303, 307, 308} {
		server := httptest.NewServer(http.RedirectHandler(other.URL+"/events", status))
		_, _, err := tailOf(t.Context(), server.URL+"/events?token=s3cret")
		server.Close()
		if err == nil || !strings.Contains(err.Error(), "it redirects to \""+other.URL) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%d: %v, want the address of the other server", status, err)
		}
	}
}

// TestTailOfAHostileServer follows streams whose texts would steer a terminal, or end in a shell.
func TestTailOfAHostileServer(t *testing.T) {
	const escape = "\x1b]0;owned\x07\x9b2J\u009b2J\u0085\x7f\u202e"
	for name, answer := range map[string]func(http.ResponseWriter){
		"event": func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
			fmt.Fprintf(w, "id: '; touch owned; '%s\nevent: %[1]s\ndata: %[1]s\n\nevent: gap\ndata: %[1]s\n\nevent: end\ndata: too-many %[1]s\n\n", escape)
		},
		"content type": func(w http.ResponseWriter) { w.Header().Set("Content-Type", "text/"+escape) },
		"refusal":      func(w http.ResponseWriter) { w.WriteHeader(403); fmt.Fprint(w, escape) },
		"JSON": func(w http.ResponseWriter) {
			w.WriteHeader(403)
			fmt.Fprintf(w, `{"error":{"message":"\u001b\u009b2J\u202e"}}`)
		},
		"redirect": func(w http.ResponseWriter) { w.Header().Set("Location", "/"+escape); w.WriteHeader(302) },
		"status":   func(w http.ResponseWriter) { hijack(w, "HTTP/1.1 403 "+escape+"\r\n\r\n") },
		"header":   func(w http.ResponseWriter) { hijack(w, "HTTP/1.1 403 x\r\n"+escape+"\r\n\r\n") },
		"no HTTP":  func(w http.ResponseWriter) { hijack(w, escape+"\r\n\r\n") },
	} {
		for _, asJSON := range []bool{false, true} {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { answer(w) }))
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			var out bytes.Buffer
			notes := untilReconnecting{cancel: cancel}
			err := Run(ctx, Config{
				Client: http.DefaultClient, URL: server.URL, Token: func() (string, error) { return "", nil }, IdleTimeout: 10 * time.Second,
				JSON: asJSON, IDs: true, All: true, Out: &out, Notes: &notes,
			})
			cancel()
			server.Close()
			text := out.String() + notes.String()
			if err != nil {
				text += visible.Text(err.Error()) // as the command prints it
			}
			if flat := strings.ReplaceAll(text, "\n", ""); flat == "" || flat != visible.Content(flat) {
				t.Errorf("%s, JSON %t: %q", name, asJSON, text)
			}
			if strings.Contains(notes.String(), "--last-event-id") {
				t.Errorf("a command with the server's id: %q", notes.String())
			}
			for line := range strings.Lines(out.String()) {
				if asJSON && !json.Valid([]byte(line)) {
					t.Errorf("%s: not JSON: %q", name, line)
				}
			}
		}
	}
}

// untilReconnecting keeps the notes, and cancels the client when it notes that it will connect again.
type untilReconnecting struct {
	bytes.Buffer
	cancel func()
}

func (w *untilReconnecting) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte("; reconnecting in ")) {
		w.cancel()
	}
	return w.Buffer.Write(p)
}

// hijack answers with a text that net/http would not write.
func hijack(w http.ResponseWriter, text string) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}
	_, _ = conn.Write([]byte(text))
	_ = conn.Close()
}

// TestTailNotesASilentServer follows a stream of a server that takes the connection and never answers. A note says so
// before the connection counts as dead.
func TestTailNotesASilentServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), silentAfter+time.Second)
		defer cancel()
		var notes bytes.Buffer
		tl := newTailer(Config{
			Client: &http.Client{Transport: silent{}}, URL: "http://herald.example/events?token=x", IdleTimeout: time.Minute,
			Token: func() (string, error) { return "", nil }, Out: io.Discard, Notes: &notes,
		})
		if err := tl.run(ctx); err != nil {
			t.Error(err)
		}
		want := "herald tail: no answer from http://herald.example/events for 5s; still waiting: is it the address of a Herald server?\n"
		if diff := cmp.Diff(want, notes.String()); diff != "" {
			t.Error(diff)
		}
	})
}

// silent is the transport to a server that never answers.
type silent struct{}

func (silent) RoundTrip(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}
