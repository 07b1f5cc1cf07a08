package stream_test

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/labstack/echo/v4"

	"herald/consumer"
	"herald/consumer/batch"
	"herald/stream"
)

// topicOfRecords is the Kafka of the example: one partition of a topic that all users share.
type topicOfRecords struct {
	stream.Kafka
	records []consumer.Record // by offset
}

func (topicOfRecords) Join(context.Context, string) ([]consumer.UserTopic, error) {
	return []consumer.UserTopic{{Topic: "notifications"}}, nil
}

func (topicOfRecords) Leave(string) {}

func (topicOfRecords) IsCurrent(string, [16]byte, func(int32) (int64, bool)) bool { return true }

func (topicOfRecords) Delivered(consumer.Partition, [16]byte, int64) {}

// Replay brings the records that were delivered before the stream accepted live records.
func (k topicOfRecords) Replay(_ context.Context, user string, ranges []consumer.Range, fn func(*consumer.Range, *consumer.Record) bool) {
	r := &ranges[0]
	for ; r.Next < r.To; r.Next++ {
		if record := &k.records[r.Next]; string(record.User) == user && !fn(r, record) {
			return
		}
	}
}

// A Handler serves the streams of a Hub. The consumer calls the hub's methods Begin, Deliver, Gap and End; this
// example calls them itself.
func ExampleHandler() {
	hub := stream.NewHub("event-type", nil)
	p := consumer.Partition{Topic: "notifications", ID: 0}
	var kafka topicOfRecords
	for offset, user := range []string{"bob", "alice"} {
		record := batch.Record{Offset: int64(offset), Value: []byte("hello " + user)}
		kafka.records = append(kafka.records, consumer.Record{Record: record, User: []byte(user)})
	}
	hub.Begin(p, [16]byte{1}, 0)

	handler := stream.NewHandler(stream.Config{
		Hub:   hub,
		Kafka: kafka, // a *consumer.Consumer in a server
		Viewer: func(c echo.Context) (stream.Viewer, error) {
			return stream.Viewer{User: c.QueryParam("user")}, nil
		},
	})
	e := echo.New()
	e.GET("/events", handler.Events)
	server := httptest.NewServer(e)
	defer server.Close()
	defer handler.Drain(context.Background(), 0)

	res, err := http.Get(server.URL + "/events?user=alice") //nolint:noctx // an example
	if err != nil {
		fmt.Println(err)
		return
	}
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	for lines.Scan() {
		if lines.Text() == "event: checkpoint" { // from here on the stream gets records
			break
		}
	}
	hub.Deliver(p, kafka.records, 2)
	for lines.Scan() {
		if data, ok := strings.CutPrefix(lines.Text(), "data: hello"); ok {
			fmt.Println("hello" + data)
			break
		}
	}
	// Output: hello alice
}

// An event id has a position for each topic of the stream.
func ExampleExplainID() {
	topics, err := stream.ExplainID("1~her949gt2mqv.2-41", "notifications")
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, topic := range topics {
		fmt.Println(topic.Topic, topic.Last)
	}
	// Output: notifications map[2:41]
}
