package consumer

import (
	"testing"

	"herald/consumer/broker"
)

// TestTopicIDsAreLearnt checks which metadata changes the id of a topic that streams know.
func TestTopicIDsAreLearnt(t *testing.T) {
	none, one, two := [16]byte{}, [16]byte{0: 1}, [16]byte{0: 2}
	for name, test := range map[string]struct {
		reported  [][16]byte
		found     bool // live reading has found that the topic was created again
		same      bool // the first id stays
		recreated bool
	}{
		"never an id":             {[][16]byte{none, none}, false, true, false},
		"never an id, found":      {[][16]byte{none, none}, true, false, true},
		"learnt":                  {[][16]byte{none, one}, false, true, false},
		"learnt, found":           {[][16]byte{none, one}, true, false, true},
		"lost":                    {[][16]byte{one, none}, false, true, false},
		"lost, found":             {[][16]byte{one, none}, true, false, true},
		"the same again":          {[][16]byte{one, none, one}, false, true, false},
		"overruled":               {[][16]byte{one, one}, true, true, false},
		"another":                 {[][16]byte{one, two}, false, false, true},
		"learnt, then another":    {[][16]byte{none, one, two}, false, false, true},
		"another after some time": {[][16]byte{one, none, two}, false, false, true},
	} {
		topics := newTopicRegistry(routes{}, nil, nil)
		state := newTopicState("t", nil)
		topics.identifyLocked(state, test.reported[0])
		first, recreated := state.id, false
		for i, id := range test.reported[1:] {
			state.recreated = test.found && i == len(test.reported)-2
			if recreated = state.isRecreatedLocked(&broker.TopicMetadata{ID: id}); recreated {
				state.forgetLocked()
			}
			topics.identifyLocked(state, id)
		}
		if got := state.id == first; got != test.same || recreated != test.recreated || IsLocalID(first) != (test.reported[0] == none) {
			t.Errorf("%s: the id stays: %t, created again: %t, want %t and %t", name, got, recreated, test.same, test.recreated)
		}
	}
}
