package main

import (
	"cmp"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"herald/cmd/herald/visible"
	"herald/stream"
)

// maxShownUser is the most characters of a user's name in the table.
const maxShownUser = 32

// printStreams prints the numbers of streams by state, and a table of the listed ones.
func printStreams(w io.Writer, listing stream.Listing, now time.Time) error {
	var states []string
	for _, state := range stream.States {
		if n := listing.States[state]; n > 0 {
			states = append(states, fmt.Sprintf("%d %s", n, state))
		}
	}
	line := countStreams(listing.Streams)
	if len(states) > 0 {
		line += ": " + strings.Join(states, ", ")
	}
	if _, err := fmt.Fprintln(w, line); err != nil || len(listing.Listed) == 0 {
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "USER\tADDRESS\tAGE\tPROTOCOL\tSTATE\tBEHIND\tQUEUE\tLAST WRITE\tID") // Flush returns the error
	for i := range listing.Listed {
		one := &listing.Listed[i]
		protocol, written, behind := one.Protocol, "never", "?"
		if one.Kind == "poll" {
			protocol += " poll"
		}
		if one.LastWrite != nil {
			written = shortAge(now.Sub(*one.LastWrite))
		}
		if one.Behind != nil {
			behind = strconv.FormatInt(*one.Behind, 10)
		}
		_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s\t%d\n", shortUser(one.User), visible.Text(cmp.Or(one.Address, "-")), shortAge(now.Sub(one.Opened)),
			visible.Text(protocol), visible.Text(string(one.State)), behind, one.QueuedBytes, written, one.ID)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if left := listing.Streams - len(listing.Listed); left > 0 {
		_, err := fmt.Fprintf(w, "not listed: %d, see --limit and --state\n", left)
		return err
	}
	return nil
}

// countStreams returns a text such as "1 stream".
func countStreams(n int) string {
	if n == 1 {
		return "1 stream"
	}
	return fmt.Sprintf("%d streams", n)
}

// shortUser returns the beginning of the user's name. Any client of a server without authentication chooses it.
func shortUser(user string) string {
	shown := []rune(visible.Text(user))
	if len(shown) > maxShownUser {
		return string(shown[:maxShownUser-1]) + "…"
	}
	return string(shown)
}

// shortAge returns an age in its largest unit, such as 12s, 5m, 3h or 2d.
func shortAge(age time.Duration) string {
	switch {
	case age < time.Minute:
		return fmt.Sprintf("%ds", max(0, int(age.Seconds())))
	case age < time.Hour:
		return fmt.Sprintf("%dm", int(age.Minutes()))
	case age < 48*time.Hour:
		return fmt.Sprintf("%dh", int(age.Hours()))
	default:
		return fmt.Sprintf("%dd", int(age.Hours()/24))
	}
}
