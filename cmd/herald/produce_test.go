package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"herald/consumer"
)

// TestProduceFromStandardInput gives the value - and checks what of standard input becomes the record.
func TestProduceFromStandardInput(t *testing.T) {
	for name, test := range map[string]struct {
		input, want, problem string
	}{
		"a line":          {"one\n", "one", ""},
		"no line break":   {"one", "one", ""},
		"Windows":         {"one\r\n", "one", ""},
		"lines":           {"one\ntwo\n\n", "one\ntwo\n", ""},
		"a CR stays":      {"one\r", "one\r", ""},
		"no UTF-8":        {"\xff\x00\n", "\xff\x00", ""},
		"nothing":         {"", "", "standard input is empty: nothing was written; for an empty value, give '' instead of -"},
		"only line break": {"\n", "", "standard input is empty"},
		"too much":        {strings.Repeat("x", maxValue+1), "", "standard input: a value has at most 67108864 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = r.Close() }()
			go func() {
				_, _ = w.WriteString(test.input)
				_ = w.Close()
			}()
			var notes bytes.Buffer
			got, err := (&produceCommand{Value: stdinValue}).value(t.Context(), r, &notes)
			if string(got) != test.want || (err == nil) != (test.problem == "") || err != nil && !strings.Contains(err.Error(), test.problem) || notes.Len() > 0 {
				t.Errorf("%q, %v, notes %q; want %q, %q", got, err, &notes, test.want, test.problem)
			}
		})
	}
}

// TestProduceInterrupted ends the command while standard input is silent.
func TestProduceInterrupted(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = (&produceCommand{Value: stdinValue}).value(ctx, r, new(bytes.Buffer))
	if err == nil || !strings.Contains(err.Error(), "nothing was written") {
		t.Errorf("%v, want the interruption", err)
	}
	_, _ = w.Close(), r.Close() // ends the read
}

// TestProduceChoosesTheTopic writes for a user and for everyone, each to the default topic.
func TestProduceChoosesTheTopic(t *testing.T) {
	_, broker := startServer(t, devRoutes)
	address := broker.ListenAddrs()[0]
	for _, test := range []struct{ who, topic, key string }{
		{"--user=alice", "notifications", "alice"},
		{"--everyone", "announcements", ""},
	} {
		if code, stderr := start(t, "produce", "--brokers="+address, test.who, "x"); code != 0 {
			t.Fatalf("%s: %d %s", test.who, code, stderr)
		}
		client, err := kgo.NewClient(kgo.SeedBrokers(address), kgo.ConsumeTopics(test.topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		records := client.PollRecords(ctx, 1).Records()
		cancel()
		client.Close()
		if len(records) != 1 || string(records[0].Key) != test.key || string(records[0].Value) != "x" {
			t.Errorf("%s: %s has %v, want one record with the key %q", test.who, test.topic, records, test.key)
		}
	}
}

// TestProduceExplainsErrors wants what to do about a topic that does not exist, and about a value that is too large.
func TestProduceExplainsErrors(t *testing.T) {
	for want, err := range map[string]error{
		"and the cluster does not create it: correct --topic":                           consumer.ErrNoTopic,
		"the value has 5 bytes, and the topic takes no record of this size: shorten it": kerr.MessageTooLarge,
		"or raise max.message.bytes of the topic":                                       kerr.RecordListTooLarge,
		"interrupted": errors.New("interrupted"),
	} {
		if got := new(produceCommand).explain([]byte("value"), err); !errors.Is(got, err) || !strings.Contains(got.Error(), want) {
			t.Errorf("%v: %v, want %q", err, got, want)
		}
	}
}
