// Command transports compares Server-Sent Events, WebSocket, long polling and polling: the same hub, the same Kafka, the
// same records, the same clients. stream/TRANSPORTS.md has the results and the conclusions.
//
// WebSocket exists here for the comparison only. Herald does not have it.
//
// # Files
//
//	transport.go     the ways that are compared
//	run.go           which sessions are measured
//	session.go       one session: the windows, and the cuts
//	load.go          the clients of a session, and the records for them
//	client.go        one client
//	wire.go          its connections; counts their bytes in the kernel
//	notification.go  the value of a record
//	child.go         the server as a process: its CPU, memory and files
//	serve.go         that server
//	websocket.go     its route for WebSocket
//	nginx.go         a proxy in front of it
//	browser.go       pages in Chromium: which, and for how long
//	chromium.go      one Chromium: its tabs, CPU and memory
//	pages.go         page.html, the page of every transport
//	result.go        the measures, and the CSV
//	report.go        the command that writes tables and pictures: comparison.go (medians and spreads), table.go,
//	                 break_even.go, picture.go (the data of each picture), plot.go (how pictures look)
package main

import (
	"context"
	"os/signal"
	"strconv"
	"syscall"

	"github.com/alecthomas/kong"
)

var commands struct {
	Serve   serveCommand   `cmd:"" help:"Run the server of a session."`
	Run     runCommand     `cmd:"" help:"Measure all transports with the load tool's clients."`
	Browser browserCommand `cmd:"" help:"Measure pages in Chromium."`
	Report  reportCommand  `cmd:"" help:"Write the tables and the pictures of the results."`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	k := kong.Parse(&commands, kong.Name("transports"), kong.BindTo(ctx, (*context.Context)(nil)), kong.Vars{"cache": strconv.Itoa(usualCache)})
	k.FatalIfErrorf(k.Run())
}
