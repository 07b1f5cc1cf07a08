package consumer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kerr"
)

// groupPatience is how long a group may fail before that is worth a line: while a cluster starts, a
// coordinator moves or members come and go, it passes by itself.
const groupPatience = 10 * time.Second

// groupHealth counts and tells the failures of a consumer group: each error once until the group works
// again, and that it does. A missing right is told at once, all else after [groupPatience]; while Kafka
// does not answer at all, [Consumer.contact] tells that. It is for one goroutine.
type groupHealth struct {
	consumer *Consumer
	group    string
	since    time.Time      // of the first failure in a row
	told     map[int16]bool // Kafka's codes of the errors that were told
}

// failed notes that the group could not be joined, asked or committed to.
func (h *groupHealth) failed(err error) {
	c := h.consumer
	c.metrics.errors.WithLabelValues("group").Inc()
	if h.since.IsZero() || !c.Online() {
		h.since = time.Now()
	}
	code := errorCode(err)
	denied := code == kerr.GroupAuthorizationFailed.Code
	level := slog.LevelDebug
	switch {
	case h.told[code] || !c.Online():
	case denied:
		level = slog.LevelError
	case time.Since(h.since) >= groupPatience:
		level = slog.LevelWarn
	}
	if level > slog.LevelDebug {
		if h.told == nil {
			h.told = make(map[int16]bool)
		}
		h.told[code] = true
	}
	if denied {
		c.log.Log(context.Background(), level, "consumer group may not be used, so its offsets are not committed; it is tried again", "group", h.group,
			"missing", fmt.Sprintf("the right (ACL) Read on this group or on the prefix %s.", c.cfg.Group), "error", err)
		return
	}
	c.log.Log(context.Background(), level, "consumer group fails, so its offsets are not committed; it is tried again", "group", h.group, "error", err)
}

// worked notes that the group does what it is for.
func (h *groupHealth) worked() {
	if len(h.told) > 0 {
		h.consumer.log.Info("consumer group works again", "group", h.group)
	}
	h.since, h.told = time.Time{}, nil
}

// errorCode returns Kafka's code of an error, 0 if it is not one of Kafka's: the texts of those differ
// from one to the next by the ports of connections.
func errorCode(err error) int16 {
	if e, ok := errors.AsType[kafka.Error](err); ok {
		return int16(e) //nolint:gosec // they are of 16 bits
	}
	if e, ok := errors.AsType[*kerr.Error](err); ok {
		return e.Code
	}
	return 0
}

// outdated says whether the group has gone on without us.
func outdated(err error) bool {
	switch errorCode(err) {
	case kerr.RebalanceInProgress.Code, kerr.IllegalGeneration.Code, kerr.UnknownMemberID.Code:
		return true
	default:
		return false
	}
}
