package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"
)

// notificationSize is the size of a record's value in bytes.
const notificationSize = 200

// notification is the value of a record. Its text is different in each record, as a real one's is, so that compression
// gains no more than it would there.
type notification struct {
	User   string `json:"user"`
	Number uint64 `json:"number"` // counts the user's records from 1
	Sent   int64  `json:"sent"`   // Unix time in ns
	Text   string `json:"text"`
}

var words = []string{
	"your", "order", "has", "shipped", "the", "build", "of", "branch", "failed", "after", "invoice", "was", "paid", "by", "new", "comment",
	"on", "ticket", "meeting", "moved", "to", "Thursday", "at", "noon", "deploy", "finished", "in", "minutes", "password", "changed", "from", "device",
}

// appendNotification appends the value of a record. The user's name has no character that JSON escapes.
func appendNotification(b []byte, user string, number uint64, sent time.Time) []byte {
	start := len(b)
	b = append(b, `{"user":"`...)
	b = append(b, user...)
	b = append(b, `","number":`...)
	b = strconv.AppendUint(b, number, 10)
	b = append(b, `,"sent":`...)
	b = strconv.AppendInt(b, sent.UnixNano(), 10)
	b = append(b, `,"text":"`...)
	for len(b)-start < notificationSize-len(`"}`) {
		b = append(b, words[rand.IntN(len(words))]...) //nolint:gosec // no secret
		b = append(b, ' ')
		b = strconv.AppendUint(b, rand.Uint64N(100), 10) //nolint:gosec // likewise
		b = append(b, ' ')
	}
	return append(b[:start+notificationSize-len(`"}`)], `"}`...)
}

// parseNotification returns a value that appendNotification has made.
func parseNotification(text string) (notification, error) {
	var n notification
	if err := json.Unmarshal([]byte(text), &n); err != nil {
		return n, fmt.Errorf("the record %q: %w", text, err)
	}
	return n, nil
}
