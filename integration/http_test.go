package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// answer is the answer to a request, read to its end.
type answer struct {
	status int
	body   string
}

// send sends a request with a body and headers, given as name, value and so on, and reads the answer.
func send(tb testing.TB, method, address, body string, headers ...string) (answer, error) {
	tb.Helper()
	request, err := http.NewRequestWithContext(tb.Context(), method, address, strings.NewReader(body))
	if err != nil {
		tb.Fatalf("%s %s: %v", method, address, err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return answer{response.StatusCode, string(text)}, err
}

// mustSend sends a request as send does. Without an answer the test fails.
func mustSend(tb testing.TB, method, address, body string, headers ...string) answer {
	tb.Helper()
	a, err := send(tb, method, address, body, headers...)
	if err != nil {
		tb.Fatalf("%s %s: %v", method, address, err)
	}
	return a
}

// waitStatus waits until the address answers with the status. If ended is closed before, the test fails; ended
// may be nil.
func waitStatus(t *testing.T, address string, want int, ended <-chan struct{}) {
	t.Helper()
	var last answer
	var err error
	waitWithin(t, 3*patience, func() string { return fmt.Sprintf("GET %s answers %d; last %d, %v", address, want, last.status, err) },
		func(context.Context) bool {
			if last, err = send(t, http.MethodGet, address, ""); last.status == want {
				return true
			}
			select {
			case <-ended:
				t.Fatalf("herald ended before %s answered %d", address, want)
			default:
			}
			return false
		})
}

// publish posts the value, which must be accepted (201), and returns the body of the answer.
func publish(t *testing.T, address, contentType, value string) string {
	t.Helper()
	a := mustSend(t, http.MethodPost, address, value, "Content-Type", contentType)
	if a.status != http.StatusCreated {
		t.Fatalf("POST %s = %d %s, want 201", address, a.status, a.body)
	}
	return a.body
}

// publishTo publishes the value through herald and returns the partition that the record was written to.
func publishTo(t *testing.T, h *herald, path, value, topic string) int {
	t.Helper()
	body := publish(t, "http://"+h.public+path, "application/json", value)
	var position struct {
		Topic     string
		Partition int
		Offset    *int64
	}
	if err := json.Unmarshal([]byte(body), &position); err != nil || position.Topic != topic || position.Offset == nil {
		t.Fatalf("POST %s answered %s (%v), want a position in %s", path, body, err, topic)
	}
	return position.Partition
}
