package main

import (
	"testing"
	"time"
)

// TestRevokeSaysWhatItDid wants the time from which tokens are accepted: 30 s after the time of the revocation.
func TestRevokeSaysWhatItDid(t *testing.T) {
	before := time.Date(2026, 1, 31, 9, 0, 0, 0, time.FixedZone("", 3600))
	const end = " before 2026-01-31T08:00:30Z (the time of the revocation and 30s, because clocks differ). Within a second, replicas refuse them and end their streams. New tokens are accepted from then on."
	for want, r := range map[string]revokeCommand{
		"Revoked: the tokens of user alice that were issued" + end:                                                   {User: "alice", Before: before},
		"Revoked: token 4f1c, if it was issued" + end:                                                                {TokenID: "4f1c", Before: before},
		"The revocation of the tokens of user alice is cancelled: within a second, replicas accept what it refused.": {User: "alice", Undo: true},
	} {
		if got := r.outcome(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
