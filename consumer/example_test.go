package consumer_test

import (
	"fmt"

	"herald/consumer"
)

func ExampleParseRoute() {
	for _, text := range []string{
		"notifications,partitioner=murmur2",
		"orders,user=json:/owner/id",
		"notifications.{user}",
		"announcements,kind=broadcast",
	} {
		route, err := consumer.ParseRoute(text)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("%s: %s\n", route.Topic, route.Kind)
	}

	route, _ := consumer.ParseRoute("notifications.{user}")
	fmt.Println(route.TopicFor("alice"))

	_, err := consumer.ParseRoute("orders,kind=private")
	fmt.Println(err)

	// Output:
	// notifications: shared
	// orders: shared
	// notifications.{user}: per-user
	// announcements: broadcast
	// notifications.alice
	// topic "orders,kind=private": kind "private": want shared, per-user or broadcast
}
