package consumer

import (
	"sync/atomic"
	"time"
)

// mayLog reports whether a line may be logged that is logged at most once in a period of whole seconds. logged holds
// the Unix second of the last line.
func mayLog(logged *atomic.Int64, period time.Duration) bool {
	now, last := time.Now().Unix(), logged.Load()
	if passed := now - last; passed >= 0 && passed < int64(period/time.Second) { // negative: the clock was set back
		return false
	}
	return logged.CompareAndSwap(last, now)
}
