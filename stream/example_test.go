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

// topicOfRecords is the Kafka of the example: one topic that all users share, without earlier records.
type topicOfRecords struct{ stream.Kafka }

func (topicOfRecords) Join(context.Context, string) ([]consumer.UserTopic, error) {
	return []consumer.UserTopic{{Topic: "notifications"}}, nil
}

func (topicOfRecords) Leave(string) {}

func (topicOfRecords) Delivered(consumer.Partition, [16]byte, int64) {}

// A Handler serves the streams of a Hub. The consumer calls the hub's methods Begin, Deliver, Gap and End; this
// example calls them itself.
func ExampleHandler() {
	hub := stream.NewHub("event-type", nil)
	p := consumer.Partition{Topic: "notifications", ID: 0}
	hub.Begin(p, [16]byte{1}, 0)

	handler := stream.NewHandler(stream.Config{
		Hub:   hub,
		Kafka: topicOfRecords{}, // a *consumer.Consumer in a server
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
	for lines.Scan() && lines.Text() != "event: checkpoint" { // the stream begins after its checkpoint
	}
	for offset, user := range []string{"bob", "alice"} {
		record := consumer.Record{Record: batch.Record{Offset: int64(offset), Value: []byte("hello " + user)}, User: []byte(user)}
		hub.Deliver(p, []consumer.Record{record}, int64(offset)+1)
	}
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
