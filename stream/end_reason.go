package stream

import (
	"errors"
	"net"
	"os"
)

// EndError is why Herald ends a stream, as its end event says. It is a part of the protocol with
// clients.
type EndError string

// The reasons. After ErrTooMany the client is to stay away: native EventSources are told to by a
// reconnection time of an hour, or one stream would drive out the other for ever.
const (
	ErrDraining  EndError = "draining"         // this replica stops; others go on
	ErrExpired   EndError = "token-expired"    // come back with a new token
	ErrRevoked   EndError = "revoked"          // the viewer's token holds no more
	ErrUnchecked EndError = "keys-unavailable" // nobody knows just now whether the token is good
	ErrTooMany   EndError = "too-many-streams" // a newer stream of the user took its place
	ErrBusy      EndError = "busy"             // more streams, or opens a second, than this replica takes
)

func (e EndError) Error() string { return string(e) }

var errGone = errors.New("the client has gone")

// Labels of ended streams that Herald did not end.
const (
	endClient       = "client"        // the client closed the connection
	endWriteTimeout = "write-timeout" // the client took nothing for the write time-out
	endError        = "error"
)

// endLabel says why a stream ended as the metric's label has it.
func endLabel(err error) string {
	reason, told := errors.AsType[EndError](err)
	_, network := errors.AsType[*net.OpError](err)
	switch {
	case told:
		return string(reason)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return endWriteTimeout
	case errors.Is(err, errGone), network: // a write may be first to see it
		return endClient
	default:
		return endError
	}
}
