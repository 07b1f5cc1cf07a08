package spelling

import (
	"strings"
	"testing"
)

func TestSuggest(t *testing.T) {
	names := []string{"since", "types", "lastEventId"}
	for name, want := range map[string]string{
		"sinse":                    `, did you mean "since"?`,
		"type":                     `, did you mean "types"?`,
		"SINCE":                    `, did you mean "since"?`,
		"last-event-id":            `, did you mean "lastEventId"?`,
		"nothing like it":          "",
		"":                         "",
		strings.Repeat("s", 90000): "",
	} {
		if got := Suggest(name, names); got != want {
			t.Errorf("%.20q: %q, want %q", name, got, want)
		}
	}
}
