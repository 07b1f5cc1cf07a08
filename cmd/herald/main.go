// Command herald streams Kafka records to people. See README.md.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
)

type commands struct {
	Dev     devCommand     `cmd:"" help:"Start broker, server and demo page in one process, nothing else needed."`
	Serve   serveCommand   `cmd:"" help:"Serve the topics of a Kafka cluster."`
	Produce produceCommand `cmd:"" help:"Write one notification to Kafka."`
	Tail    tailCommand    `cmd:"" help:"Follow a stream in the terminal; resumes by itself."`
	Token   tokenCommand   `cmd:"" help:"Print a token for development."`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	var cli commands
	parser := kong.Must(&cli, kong.Name("herald"), kong.Description("Streams Kafka records to people over Server-Sent Events."),
		kong.DefaultEnvars("HERALD"), kong.BindTo(ctx, (*context.Context)(nil)))
	parsed, err := parser.Parse(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "herald:", err)
		os.Exit(2)
	}
	if err := parsed.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "herald:", err)
		os.Exit(1)
	}
}
