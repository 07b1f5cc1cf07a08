package stream

import (
	"errors"
	"net"
	"os"
)

// EndReason is why Herald ends a stream, as its end event says. It is a part of the protocol with
// clients.
type EndReason string

// The reasons. After EndTooMany the client is to stay away: native EventSources are told to by a
// reconnection time of an hour, or one stream would drive out the other for ever.
const (
	EndDraining EndReason = "draining"         // this replica stops; others go on
	EndExpired  EndReason = "token-expired"    // come back with a new token
	EndTooMany  EndReason = "too-many-streams" // a newer stream of the user took its place
	EndBusy     EndReason = "busy"             // more streams, or opens a second, than this replica takes
)

func (e EndReason) Error() string { return string(e) }

var (
	errGone = errors.New("the client has gone")
	errCut  = errors.New("the server stops")
)

// endLabel says why a stream ended as the metric's label has it.
func endLabel(err error) string {
	reason, told := errors.AsType[EndReason](err)
	_, network := errors.AsType[*net.OpError](err)
	switch {
	case told:
		return string(reason)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "write-timeout"
	case errors.Is(err, errCut):
		return string(EndDraining)
	case errors.Is(err, errGone), network: // a write may be first to see it
		return "client"
	default:
		return "error"
	}
}
