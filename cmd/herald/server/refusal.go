package server

import (
	"errors"
	"log/slog"
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"

	"herald/stream"
)

// refusal is an answer in JSON that is not a success: {"error":{"code":"…","message":"…"}}. The code is
// for programs and does not change. The message is for people.
type refusal struct {
	status  int
	code    string
	reason  string // for programs: why a token is not accepted, see [auth.Refusal]; empty: the code says all
	message string
	cause   error // for the log; nil: there is nothing more to say
}

// errorBody is the part of a refusal that the client gets.
type errorBody struct {
	Code    string `json:"code"`
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message"`
}

func refuse(status int, code, message string) *refusal {
	return &refusal{status: status, code: code, message: message}
}

// because returns the refusal with its cause.
func (r *refusal) because(cause error) *refusal {
	with := *r
	with.cause = cause
	return &with
}

// Error is for the log.
func (r *refusal) Error() string {
	if r.cause == nil {
		return r.message
	}
	return r.message + ": " + r.cause.Error()
}

func (r *refusal) Unwrap() error { return r.cause }

// The codes of refusals. An error of another package has its status as its code, such as not-found.
const (
	codeBadRequest        = "bad-request"
	codeInvalidUser       = "invalid-user"
	codeUserNotServed     = "user-not-served" // no topic can be this user's
	codeInvalidKey        = "invalid-idempotency-key"
	codeConflictingTokens = "conflicting-tokens"
	codeInvalidToken      = "invalid-token" // none at all too
	codeForeignOrigin     = "foreign-origin"
	codeForeignHost       = "foreign-host"
	codeMayNotPublish     = "may-not-publish"
	codeNoTopic           = "no-topic"
	codePending           = "request-pending"
	codeTooLarge          = "too-large"
	codeContentType       = "content-type"
	codeContentEncoding   = "content-encoding"
	codeNotText           = "not-text"
	codeKeyReused         = "idempotency-key-reused"
	codeQuota             = "quota-exceeded"
	codeUnconfirmed       = "unconfirmed" // whether the record was written is unknown
	codeKafkaUnavailable  = "kafka-unavailable"
	codeKeysUnavailable   = "keys-unavailable"
	codeBusy              = "busy"
)

// statusCode returns the code of a refusal that has none of its own: the status in words.
func statusCode(status int) string {
	return strings.ToLower(strings.ReplaceAll(http.StatusText(status), " ", "-"))
}

// asRefusal returns the answer to the client. An error that is neither a refusal nor Echo's may contain
// details that the client must not see. So its answer has a fixed text.
func asRefusal(err error) *refusal {
	if r, ok := errors.AsType[*refusal](err); ok {
		return r
	}
	if e, ok := errors.AsType[*echo.HTTPError](err); ok {
		message, ok := e.Message.(string)
		if !ok {
			message = http.StatusText(e.Code)
		}
		if reason, ok := errors.AsType[stream.EndError](err); ok { // of a poll for JSON
			return refuse(e.Code, string(reason), message)
		}
		return refuse(e.Code, statusCode(e.Code), message)
	}
	return refuse(http.StatusInternalServerError, statusCode(http.StatusInternalServerError), "internal error")
}

// answerError answers every error in the same shape. It logs errors that are the server's or Kafka's
// fault, except 503: the consumer has logged that Kafka is unreachable.
func answerError(log *slog.Logger) echo.HTTPErrorHandler {
	return func(err error, c echo.Context) {
		r := asRefusal(err)
		if r.status >= http.StatusInternalServerError && r.status != http.StatusServiceUnavailable {
			log.Error("request failed", "method", c.Request().Method, "route", c.Path(), "status", r.status, "error", err)
		}
		if c.Response().Committed {
			return
		}
		c.Response().Header().Set(echo.HeaderCacheControl, stream.CacheControl)
		_ = c.JSON(r.status, map[string]errorBody{"error": {r.code, r.reason, r.message}})
	}
}
