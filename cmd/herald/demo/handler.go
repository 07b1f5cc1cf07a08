package demo

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/labstack/echo/v4"
)

const (
	maxBody    = 4 << 10 // bytes of a task request
	maxName    = 120     // characters of a task's name
	maxSeconds = 120
)

// userName matches the names that a user may have on the page. A name must be able
// to be a part of a Kafka topic's name, and must leave room for the other parts.
var userName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,128}$`)

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

// postTask starts a task and answers 202 with its id. It requires the content type
// of JSON: a page of another origin cannot send it without a CORS preflight (Fetch,
// "CORS-safelisted request-header"), so other sites cannot start tasks.
func (d *Demo) postTask(c echo.Context) error {
	by := c.RealIP() // where nobody signs in
	if d.permit != nil {
		var err error
		if by, err = d.permit(c); err != nil {
			return err
		}
	}
	r, err := readTask(c)
	if err == nil {
		var id string
		if id, err = d.start(c.Request().Context(), by, r); err == nil {
			return c.JSON(http.StatusAccepted, map[string]string{"task": id})
		}
	}
	var refused *refusal
	switch {
	case errors.As(err, &refused):
	case errors.Is(err, errTooManyTasks):
		c.Response().Header().Set("Retry-After", "5")
		refused = &refusal{
			http.StatusTooManyRequests, "too-many-tasks",
			fmt.Sprintf("%d tasks of all users, or %d tasks of yours, are already running: wait until a task is complete", maxRunning, maxOwn),
		}
	case errors.Is(err, errClosed):
		refused = &refusal{http.StatusServiceUnavailable, "stopping", "the server is stopping: try again later"}
	default:
		d.log.ErrorContext(c.Request().Context(), "task not started", "error", err)
		refused = &refusal{http.StatusServiceUnavailable, "kafka-unavailable", "Kafka did not accept the task's first record: try again"}
	}
	return c.JSON(refused.status, map[string]*refusal{"error": refused})
}

// readTask reads and checks the request. Its errors have the type *refusal.
func readTask(c echo.Context) (taskRequest, error) {
	var r taskRequest
	mediaType, _, err := mime.ParseMediaType(c.Request().Header.Get("Content-Type"))
	if err != nil || mediaType != "application/json" {
		return r, &refusal{http.StatusUnsupportedMediaType, "content-type", "send the header Content-Type: application/json"}
	}
	decoder := json.NewDecoder(http.MaxBytesReader(c.Response(), c.Request().Body, maxBody))
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
	return r, r.validate()
}

// validate explains the first mistake in the request, as a *refusal.
func (r *taskRequest) validate() error {
	r.Name = strings.TrimSpace(r.Name)
	invalid := func(message string) error {
		return &refusal{http.StatusBadRequest, "invalid", message}
	}
	switch {
	case !userName.MatchString(r.User):
		return invalid("user must be 1 to 128 characters of A-Z a-z 0-9 . _ -")
	case r.Name == "" || utf8.RuneCountInString(r.Name) > maxName:
		return invalid(fmt.Sprintf("name must have 1 to %d characters", maxName))
	case strings.ContainsFunc(r.Name, unicode.IsControl):
		return invalid("name must not contain control characters")
	case r.Seconds < 1 || r.Seconds > maxSeconds:
		return invalid(fmt.Sprintf("seconds must be a whole number from 1 to %d", maxSeconds))
	}
	return nil
}
