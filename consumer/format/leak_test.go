package format

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(patient{m}) }

// patient gives goroutines that end 20 s more than goleak's 0.4 s, because they may wait for a CPU.
type patient struct{ *testing.M }

func (p patient) Run() int {
	code := p.M.Run()
	for range 50 {
		if goleak.Find() == nil {
			break
		}
	}
	return code
}
