package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"herald/cmd/herald/server"
	"herald/cmd/herald/visible"
	"herald/stream"
)

// streamsCommand asks a running server for its open streams. Its filters have no environment variables: HERALD_USER is a
// setting of tail.
type streamsCommand struct {
	adminFlags

	User    string        `env:"-" placeholder:"NAME" help:"List the streams of this user. Default: of all users."`
	State   string        `env:"-" placeholder:"STATE" help:"List the streams in this state: live, catching-up, waiting-for-kafka or slow. Default: in every state."`
	Address string        `env:"-" placeholder:"ADDRESS" help:"List the streams of clients with this address, or in this network, such as 10.0.0.0/8. Default: of all clients."`
	ID      int64         `env:"-" name:"id" placeholder:"ID" help:"List the stream with this id. Default: all."`
	Limit   int           `env:"-" default:"100" placeholder:"N" help:"Most streams to list, the oldest first. 0: no limit. Default: ${default}."`
	JSON    bool          `env:"-" name:"json" help:"Print the server's answer, which is JSON and has the position of each stream. Default: a table."`
	End     bool          `env:"-" help:"End the streams of --user, or the stream of --id. Their clients reconnect, and continue after their last event. Default: only list them."`
	Timeout time.Duration `env:"-" default:"30s" placeholder:"DURATION" help:"Time that the server may take to answer. Default: ${default}."`
}

// Help implements kong.HelpProvider.
func (*streamsCommand) Help() string {
	return `Example:

    herald streams
    herald streams --user alice
    herald streams --state slow --limit 0
    herald streams --user alice --end
    herald streams --user alice --json

The first line counts the streams by state. The table has a line for each stream:

    state        live: the client has everything that Herald has read. catching-up: missed records are on their
                 way. waiting-for-kafka: Kafka does not answer for a partition that can hold the user's records.
                 slow: the client does not take the bytes that wait for it.
    behind       records, of all users, from the stream's position to the end of Kafka's logs; ? if not known
    queue        bytes that wait in Herald for the client
    last write   how long ago the client last took bytes, heartbeats included

A replica lists its own streams only: ask each. After --end, clients come back: to lock a user out, use herald revoke. What to do for a user who gets nothing is in deploy/OPERATING.md, "Looking at streams".`
}

// Validate implements kong.Validatable.
func (s *streamsCommand) Validate() error {
	switch {
	case s.State != "" && !slices.Contains(stream.States, stream.State(s.State)):
		return fmt.Errorf("--state=%s: want one of %q", s.State, stream.States)
	case s.ID < 0 || s.Limit < 0:
		return errors.New("--id and --limit take no negative number")
	case s.Timeout <= 0:
		return fmt.Errorf("--timeout=%v: want more than 0s", s.Timeout)
	case s.End && (s.User == "") == (s.ID == 0):
		return errors.New("--end needs either --user (all streams of the user) or --id (one stream)")
	case s.End && (s.State != "" || s.Address != ""):
		return errors.New("--end ends the streams of --user or the stream of --id: leave out --state and --address")
	}
	return s.check()
}

// Run implements the command.
func (s *streamsCommand) Run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	body, err := s.ask(ctx, http.MethodGet, s.query())
	if err != nil {
		return err
	}
	var listing stream.Listing
	if err := json.Unmarshal(body, &listing); err != nil || listing.States == nil {
		return notAdmin(http.StatusText(http.StatusOK), body)
	}
	if s.End {
		return s.end(ctx, listing.Streams)
	}
	if s.JSON {
		_, err := os.Stdout.Write(body)
		return err
	}
	return printStreams(os.Stdout, listing, time.Now())
}

// end ends the streams, after it has said how many.
func (s *streamsCommand) end(ctx context.Context, count int) error {
	if count == 0 {
		return errors.New("no such stream is open on this server")
	}
	if !s.JSON {
		fmt.Printf("ending %s\n", countStreams(count))
	}
	query := url.Values{}
	if s.ID != 0 {
		query.Set("id", strconv.FormatInt(s.ID, 10))
	} else {
		query.Set("user", s.User)
	}
	body, err := s.ask(ctx, http.MethodDelete, query)
	if err != nil {
		return err
	}
	var answer server.Ended
	switch err := json.Unmarshal(body, &answer); {
	case err != nil:
		return notAdmin(http.StatusText(http.StatusOK), body)
	case s.JSON:
		_, err := os.Stdout.Write(body)
		return err
	}
	fmt.Printf("ended %s; their clients reconnect\n", countStreams(answer.Ended))
	return nil
}

// query returns the parameters of the listing.
func (s *streamsCommand) query() url.Values {
	query := url.Values{"limit": {strconv.Itoa(s.Limit)}}
	for name, value := range map[string]string{"user": s.User, "state": s.State, "address": s.Address} {
		if value != "" {
			query.Set(name, value)
		}
	}
	if s.ID != 0 {
		query.Set("id", strconv.FormatInt(s.ID, 10))
	}
	return query
}

// ask asks the admin listener for the streams, and returns the body of the answer 200.
func (s *streamsCommand) ask(ctx context.Context, method string, query url.Values) ([]byte, error) {
	res, err := s.request(ctx, method, "/debug/streams?"+query.Encode())
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, fmt.Errorf("/debug/streams: %w", err)
	}
	switch text := string(body); {
	case res.StatusCode == http.StatusOK:
		return body, nil
	case res.StatusCode == http.StatusBadRequest:
		return nil, errors.New(visible.Text(strings.TrimSpace(text)))
	case strings.Contains(text, "admin listener ("), strings.Contains(text, "GET /events"): // the answer of a public listener, new and old
		return nil, errors.New("this is the public listener: give --admin the address of --admin-listen")
	case strings.Contains(text, "/livez"):
		return nil, errors.New("the server has no /debug/streams: it is older than this command")
	default:
		return nil, notAdmin(res.Status, body)
	}
}

// notAdmin returns the error about an answer that no admin listener gives.
func notAdmin(status string, body []byte) error {
	return fmt.Errorf("the answer is not one of Herald's admin listener: %s: %.200s", visible.Text(status), visible.Text(strings.TrimSpace(string(body))))
}
