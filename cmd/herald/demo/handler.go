package demo

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	maxBody    = 4 << 10 // bytes of a task request
	maxName    = 120     // characters of a task's name
	maxSeconds = 120
)

// taskRequest is the body of POST /demo/tasks.
type taskRequest struct {
	User    string `json:"user"`
	Name    string `json:"name"`
	Seconds int    `json:"seconds"`
}

// refusal is an error whose text is sent to the client.
type refusal struct {
	status  int
	Code    string `json:"code"`
	Message string `json:"message"`
}

func (r *refusal) Error() string { return r.Message }

// StartTask handles POST /demo/tasks: it starts a task and answers 202 with its id.
// by is who starts the task: a user or, where nobody signs in, a client's address.
// The caller has checked that by may publish.
//
// The request must have the content type of JSON. A page of another origin cannot
// send this type without a CORS preflight (Fetch, "CORS-safelisted request-header"),
// so no other site can start tasks.
func (d *Demo) StartTask(w http.ResponseWriter, req *http.Request, by string) {
	task, err := d.readTask(w, req)
	if err == nil {
		var id string
		if id, err = d.start(req.Context(), by, task); err == nil {
			answerJSON(w, http.StatusAccepted, map[string]string{"task": id})
			return
		}
	}
	var refused *refusal
	switch {
	case errors.As(err, &refused):
	case errors.Is(err, errTooManyTasks):
		w.Header().Set("Retry-After", "5")
		refused = &refusal{
			http.StatusTooManyRequests, "too-many-tasks",
			fmt.Sprintf("%d tasks of all users, or %d tasks of yours, are already running: wait until a task is complete", maxRunning, maxOwn),
		}
	case errors.Is(err, errClosed):
		refused = &refusal{http.StatusServiceUnavailable, "stopping", "the server is stopping: try again later"}
	case errors.Is(err, ErrNoTopic):
		refused = &refusal{http.StatusNotFound, "no-topic", "no topic of this server takes a notification for one user: start Herald with one too, such as --topic notifications"}
	default:
		d.log.ErrorContext(req.Context(), "task not started", "error", err)
		refused = &refusal{http.StatusServiceUnavailable, "kafka-unavailable", "Kafka did not accept the task's first record: try again"}
	}
	answerJSON(w, refused.status, map[string]*refusal{"error": refused})
}

// Condition says whether the server reads the records of its streams. An open stream alone does not show it.
type Condition string

// The conditions of a server.
const (
	Ready     Condition = "ready"
	KafkaDown Condition = "kafka-down" // Kafka did not answer the last request for metadata
	NotReady  Condition = "not-ready"  // another reason of /readyz
)

// AnswerCondition handles GET /demo/condition. The status is 200 in every condition: a browser would report
// each other status on the page's console. The answer leaves the reason out, because anybody may ask.
func AnswerCondition(w http.ResponseWriter, c Condition) {
	w.Header().Set("Cache-Control", "no-store")
	answerJSON(w, http.StatusOK, map[string]Condition{"condition": c})
}

func answerJSON(w http.ResponseWriter, status int, answer any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(answer) // the client has gone: nobody is left to answer
}

// readTask reads and checks the request. Its errors have the type *refusal.
func (d *Demo) readTask(w http.ResponseWriter, req *http.Request) (taskRequest, error) {
	var r taskRequest
	mediaType, _, err := mime.ParseMediaType(req.Header.Get("Content-Type"))
	if err != nil || mediaType != "application/json" {
		return r, &refusal{http.StatusUnsupportedMediaType, "content-type", "send the header Content-Type: application/json"}
	}
	decoder := json.NewDecoder(http.MaxBytesReader(w, req.Body, maxBody))
	decoder.DisallowUnknownFields()
	err = decoder.Decode(&r)
	if err == nil {
		if _, err = decoder.Token(); err == nil {
			err = errors.New("more than one JSON value")
		} else if errors.Is(err, io.EOF) {
			err = nil
		}
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return r, &refusal{http.StatusRequestEntityTooLarge, "too-large", fmt.Sprintf("the body is larger than %d bytes", maxBody)}
	}
	if err != nil {
		return r, &refusal{
			http.StatusBadRequest, "json",
			`send one JSON object like {"user":"alice","name":"Quarterly report","seconds":10}: ` + err.Error(),
		}
	}
	if err := r.validate(); err != nil {
		return r, err
	}
	if err := d.checkUser(r.User); err != nil {
		return r, &refusal{http.StatusBadRequest, "invalid", "user: " + err.Error()}
	}
	return r, nil
}

// validate explains the first mistake in the request, as a *refusal.
func (r *taskRequest) validate() error {
	r.Name = strings.TrimSpace(r.Name)
	invalid := func(message string) error {
		return &refusal{http.StatusBadRequest, "invalid", message}
	}
	switch {
	case strings.ContainsRune(r.User, utf8.RuneError): // as below
		return invalid("user must be text in UTF-8")
	case r.Name == "" || utf8.RuneCountInString(r.Name) > maxName:
		return invalid(fmt.Sprintf("name must have 1 to %d characters", maxName))
	case strings.ContainsRune(r.Name, utf8.RuneError): // the JSON package puts it in the place of bytes that are not UTF-8
		return invalid("name must be text in UTF-8")
	case strings.ContainsFunc(r.Name, unicode.IsControl):
		return invalid("name must not contain control characters")
	case r.Seconds < 1 || r.Seconds > maxSeconds:
		return invalid(fmt.Sprintf("seconds must be a whole number from 1 to %d", maxSeconds))
	}
	return nil
}
