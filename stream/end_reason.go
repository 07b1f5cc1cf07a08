package stream

import (
	"errors"
	"net"
	"os"
)

// EndError is the reason for which Herald ends a stream, as the end event contains it. Its values are part of the
// protocol with clients.
type EndError string

// The reasons. After ErrTooMany the client must not reconnect: two streams would end each other for ever. The
// stream sets the reconnection time of a native EventSource to an hour.
const (
	ErrDraining  EndError = "draining"         // this replica stops; other replicas serve the stream
	ErrExpired   EndError = "token-expired"    // come back with a new token
	ErrRevoked   EndError = "revoked"          // the viewer's token was revoked
	ErrUnchecked EndError = "keys-unavailable" // the token cannot be checked at present
	ErrTooMany   EndError = "too-many-streams" // a newer stream of the user took its place
	ErrReconnect EndError = "reconnect"        // an operator ended the stream; come back at once
	ErrBusy      EndError = "busy"             // this replica has too many streams, or too many opens a second
)

func (e EndError) Error() string { return string(e) }

var errGone = errors.New("the client has gone")

// Labels of ended streams that Herald did not end.
const (
	endClient       = "client"        // the client closed the connection
	endPolled       = "polled"        // a poll was answered
	endWriteTimeout = "write-timeout" // the client took nothing for the write time-out
	endError        = "error"
)

// endLabel returns the metric's label for the reason for which a stream ended.
func endLabel(err error) string {
	reason, told := errors.AsType[EndError](err)
	_, network := errors.AsType[*net.OpError](err)
	switch {
	case told:
		return string(reason)
	case errors.Is(err, errAnswered):
		return endPolled
	case errors.Is(err, os.ErrDeadlineExceeded):
		return endWriteTimeout
	case errors.Is(err, errGone), network: // a write may notice it first
		return endClient
	default:
		return endError
	}
}
