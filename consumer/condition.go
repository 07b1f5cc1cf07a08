package consumer

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"herald/consumer/batch"
)

// maxConditions bounds [Conditions]: each of them is compared with each record of a stream.
const maxConditions = 20

// Condition is a condition on a record: its last header of the name Header has the value Value. A record without the
// header, or with null in it, does not meet the condition. The zero Condition is none.
type Condition struct {
	Header, Value string
}

// conditionPlace begins the text of a condition. A later version may have conditions on other parts of a record.
const conditionPlace = "header:"

// ParseCondition parses a condition: header:NAME=VALUE. The name has no equals sign, and the value may have some.
func ParseCondition(text string) (Condition, error) {
	rest, ok := strings.CutPrefix(text, conditionPlace)
	name, value, hasValue := strings.Cut(rest, "=")
	c := Condition{name, value}
	if !ok || !hasValue {
		return Condition{}, fmt.Errorf("%q: want header:NAME=VALUE, such as header:region=eu", text)
	}
	if err := c.validate(); err != nil {
		return Condition{}, fmt.Errorf("%q: %w", text, err)
	}
	return c, nil
}

// String returns the text of the condition, as [ParseCondition] reads it.
func (c Condition) String() string { return conditionPlace + c.Header + "=" + c.Value }

func (c Condition) validate() error {
	switch {
	case c.Header == "" || c.Header != strings.TrimSpace(c.Header):
		return errors.New("name the record header, without white space around it")
	case strings.Contains(c.Header, "="):
		return errors.New("the name of the header has an equals sign")
	case strings.HasSuffix(c.Header, "!") || strings.HasPrefix(c.Value, "="):
		return errors.New("a condition names the value that the header has, with one equals sign: there is no != and no ==")
	case c.Value == "":
		return errors.New("give the header's value after the equals sign")
	case !utf8.ValidString(c.Header) || !utf8.ValidString(c.Value):
		return errors.New("it is not UTF-8")
	}
	return nil
}

// validateInRoute checks what the text of a route needs besides. Commas separate the options of a route, and semicolons
// the routes of a list.
func (c Condition) validateInRoute() error {
	switch {
	case strings.ContainsAny(c.Header+c.Value, ",;"):
		return errors.New("where=… has a comma or a semicolon, which separates options and topics")
	case c.Value != strings.TrimSpace(c.Value):
		return errors.New("where=… has white space around its value")
	}
	if err := c.validate(); err != nil {
		return fmt.Errorf("where=…: %w", err)
	}
	return nil
}

// isMet reports whether the record meets the condition. Every record meets the zero one.
func (c *Condition) isMet(r *batch.Record) bool {
	if c.Header == "" {
		return true
	}
	value, _ := r.Header(c.Header)
	return value != nil && string(value) == c.Value
}

// Conditions choose records. Conditions on one header are alternatives, and conditions on different headers must all be
// met. Nil chooses all records, an empty list none. [ParseConditions] makes them.
type Conditions []Condition

// ParseConditions parses up to 20 conditions.
func ParseConditions(texts []string) (Conditions, error) {
	if texts == nil {
		return nil, nil
	}
	if len(texts) > maxConditions {
		return nil, fmt.Errorf("%d conditions: want at most %d", len(texts), maxConditions)
	}
	list := make(Conditions, 0, len(texts))
	for _, text := range texts {
		c, err := ParseCondition(text)
		if err != nil {
			return nil, err
		}
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b Condition) int { // AreMet needs the conditions on one header side by side
		return cmp.Or(cmp.Compare(a.Header, b.Header), cmp.Compare(a.Value, b.Value))
	})
	return slices.Compact(list), nil
}

// AreMet reports whether the conditions choose the record.
func (cs Conditions) AreMet(r *batch.Record) bool {
	for i := 0; i < len(cs); {
		value, _ := r.Header(cs[i].Header)
		met := false
		for header := cs[i].Header; i < len(cs) && cs[i].Header == header; i++ {
			met = met || value != nil && string(value) == cs[i].Value
		}
		if !met {
			return false
		}
	}
	return cs == nil || len(cs) > 0
}
