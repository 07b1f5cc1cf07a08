package consumer

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestLogLimitSurvivesAClockThatIsSetBack checks that a line is logged once in a period, also if the clock was
// ahead when the last line was logged.
func TestLogLimitSurvivesAClockThatIsSetBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logged atomic.Int64
		logged.Store(time.Now().Add(3 * time.Hour).Unix())
		for i, want := range []bool{true, false, true, false} {
			if got := mayLog(&logged, 2*time.Second); got != want {
				t.Errorf("after %d s: %v, want %v", i, got, want)
			}
			time.Sleep(time.Second)
		}
	})
}
