package tail

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"herald/cmd/herald/visible"
	"herald/stream"
)

// eventPrinter prints each event, as text for people or as one line of JSON.
type eventPrinter struct {
	w    io.Writer
	json bool
	ids  bool // print ids in text
	all  bool // print Herald's own events too
	now  func() time.Time
}

func (p *eventPrinter) print(e Event) error {
	switch {
	case stream.IsOwn(e.Type) && !p.all:
		return nil
	case p.json:
		return p.printJSON(e)
	default:
		return p.printText(e)
	}
}

func (p *eventPrinter) printJSON(e Event) error {
	var line strings.Builder
	enc := json.NewEncoder(&line)
	enc.SetEscapeHTML(false)
	err := enc.Encode(struct {
		Time time.Time `json:"time"`
		Type string    `json:"type"`
		ID   string    `json:"id"`
		Data string    `json:"data"`
	}{p.now(), e.Type, e.ID, e.Data})
	if err == nil {
		// JSON leaves some characters that steer terminals as they are. Their escapes are JSON's too.
		_, err = io.WriteString(p.w, visible.Content(strings.TrimSuffix(line.String(), "\n"))+"\n")
	}
	if err != nil {
		return fmt.Errorf("print event: %w", err)
	}
	return nil
}

// printText writes time, type, id if ids are wanted, and data. The second line of the data and all later
// ones are indented.
func (p *eventPrinter) printText(e Event) error {
	words := []string{p.now().Format("15:04:05.000"), visible.Text(e.Type)}
	if p.ids {
		words = append(words, visible.Text(cmp.Or(e.ID, "-")))
	}
	lines := strings.Split(e.Data, "\n")
	for i := range lines {
		lines[i] = visible.Content(lines[i])
	}
	words = append(words, strings.Join(lines, "\n    "))
	if _, err := fmt.Fprintln(p.w, strings.Join(words, " ")); err != nil {
		return fmt.Errorf("print event: %w", err)
	}
	return nil
}
