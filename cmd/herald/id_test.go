package main

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestExplainID(t *testing.T) {
	var out bytes.Buffer
	if err := (&idCommand{ID: "1t946684800000~her949gt2mqv.2-41.5.6-7t~000000000000.1-2"}).explain(&out); err != nil {
		t.Fatal(err)
	}
	want := "topic with hash 000000 (incarnation 000000)\n  partition 1 up to offset 2\nnotifications (incarnation gt2mqv)\n  partition 2 up to offset 41\n  partition 5 from its start\n" +
		"  partition 6 up to offset 7, or from the first record of 2000-01-01T00:00:00Z or later, whose offset Kafka had not returned yet\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
	if err := (&idCommand{ID: "nonsense"}).explain(&out); err == nil {
		t.Error("nonsense was explained")
	}
}
