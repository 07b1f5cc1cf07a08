package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// protocol is how a client asks for records.
type protocol int

const (
	sse       protocol = iota // a stream, text/event-stream
	webSocket                 // a stream, one WebSocket message for each piece of the same text
	poll                      // GET /events?wait=…, again and again
)

// transport is one of the ways that are compared. All of them reach the same hub and get the same bytes of events.
type transport struct {
	name     string
	protocol protocol
	tls      bool
	http2    bool          // with tls
	netHTTP  bool          // sse: Herald leaves the connection to net/http, which keeps a goroutine for each stream
	deflate  bool          // webSocket: permessage-deflate (RFC 7692) with context takeover
	wait     time.Duration // poll: how long an answer may wait for a record; 0: an answer comes at once
	every    time.Duration // poll: the time between the beginnings of two requests; 0: the next request follows the answer
	newConn  bool          // poll: each request has a connection of its own
}

// longWait is how long a long poll waits for a record.
const longWait = 25 * time.Second

// transports are all that are compared, in the order of the tables.
var transports = []transport{
	{name: "sse", protocol: sse},
	{name: "sse-nethttp", protocol: sse, netHTTP: true},
	{name: "sse-tls", protocol: sse, tls: true},
	{name: "sse-h2", protocol: sse, tls: true, http2: true},
	{name: "ws", protocol: webSocket},
	{name: "ws-deflate", protocol: webSocket, deflate: true},
	{name: "ws-tls", protocol: webSocket, tls: true},
	{name: "ws-tls-deflate", protocol: webSocket, tls: true, deflate: true},
	{name: "longpoll", protocol: poll, wait: longWait},
	{name: "longpoll-h2", protocol: poll, wait: longWait, tls: true, http2: true},
	{name: "poll-1s", protocol: poll, every: time.Second},
	{name: "poll-5s", protocol: poll, every: 5 * time.Second},
	{name: "poll-30s", protocol: poll, every: 30 * time.Second},
	{name: "poll-5s-h2", protocol: poll, every: 5 * time.Second, tls: true, http2: true},
	{name: "poll-30s-tls-new", protocol: poll, every: 30 * time.Second, tls: true, newConn: true},
}

// transportOf returns the transport with the name. The error names all transports.
func transportOf(name string) (transport, error) {
	i := slices.IndexFunc(transports, func(t transport) bool { return t.name == name })
	if i < 0 {
		return transport{}, fmt.Errorf("unknown transport %q: want one of %s", name, strings.Join(transportNames(), ", "))
	}
	return transports[i], nil
}

func transportNames() (names []string) {
	for _, t := range transports {
		names = append(names, t.name)
	}
	return names
}
