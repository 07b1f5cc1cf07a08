package consumer

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kerr"
)

// groupPatience is how long a group has to fail before the log says so. Shorter failures pass by
// themselves: a cluster starts, a coordinator moves, members come and go.
const groupPatience = 10 * time.Second

// groupHealth counts and logs the failures of a consumer group. It logs each error once until the group
// works again, and then that it works. It logs a missing right at once and other errors after
// [groupPatience]. It logs nothing while Kafka does not answer at all, because the consumer logs that
// itself. One goroutine uses it.
type groupHealth struct {
	group    string
	prefix   string             // of the names of all groups of this deployment, for an ACL
	online   func() bool        // whether Kafka answers at all
	failures prometheus.Counter // of this group and others
	log      *slog.Logger

	since  time.Time      // of the first failure in a row
	logged map[int16]bool // Kafka's codes of the errors that were logged
}

// newGroupHealth returns the health of the group "<prefix>.<name>".
func newGroupHealth(prefix, name string, online func() bool, metrics *metrics, log *slog.Logger) *groupHealth {
	return &groupHealth{group: prefix + "." + name, prefix: prefix + ".", online: online, failures: metrics.errors.WithLabelValues(errorGroup), log: log}
}

// recordFailure notes that the group could not be joined, asked or committed to.
func (h *groupHealth) recordFailure(err error) {
	h.failures.Inc()
	online := h.online()
	if h.since.IsZero() || !online {
		h.since = time.Now()
	}
	code := errorCode(err)
	denied := code == kerr.GroupAuthorizationFailed.Code
	level := slog.LevelDebug
	switch {
	case h.logged[code] || !online:
	case denied:
		level = slog.LevelError
	case time.Since(h.since) >= groupPatience:
		level = slog.LevelWarn
	}
	if level > slog.LevelDebug {
		if h.logged == nil {
			h.logged = make(map[int16]bool)
		}
		h.logged[code] = true
	}
	if denied {
		h.log.Log(context.Background(), level, "consumer group refused access, so its offsets are not committed; retrying", "group", h.group,
			"missing", "the right (ACL) Read on this group or on the prefix "+h.prefix, "error", err)
		return
	}
	h.log.Log(context.Background(), level, "consumer group failed, so its offsets are not committed; retrying", "group", h.group, "error", err)
}

// recordSuccess notes that the group could be committed to.
func (h *groupHealth) recordSuccess() {
	if len(h.logged) > 0 {
		h.log.Info("consumer group works again", "group", h.group)
	}
	h.since, h.logged = time.Time{}, nil
}

// errorCode returns Kafka's code of an error, 0 if the error is not Kafka's. Errors of connections are all
// one to groupHealth, because their texts differ by the ports of the connections.
func errorCode(err error) int16 {
	if e, ok := errors.AsType[kafka.Error](err); ok {
		return int16(e) //nolint:gosec // Kafka's error codes have 16 bits
	}
	if e, ok := errors.AsType[*kerr.Error](err); ok {
		return e.Code
	}
	return 0
}

// isOldGeneration reports whether the group moved on to a generation without this member.
func isOldGeneration(err error) bool {
	switch errorCode(err) {
	case kerr.RebalanceInProgress.Code, kerr.IllegalGeneration.Code, kerr.UnknownMemberID.Code:
		return true
	default:
		return false
	}
}
