package consumer

import (
	"sync/atomic"
	"time"
)

// mayLog limits a line of the log to one in each period of whole seconds. It reports whether the caller may log the
// line now. logged holds the Unix second of the last line.
func mayLog(logged *atomic.Int64, period time.Duration) bool {
	now, last := time.Now().Unix(), logged.Load()
	if passed := now - last; passed >= 0 && passed < int64(period/time.Second) { // negative: the clock was set back
		return false
	}
	return logged.CompareAndSwap(last, now)
}
