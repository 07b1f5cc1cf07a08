// Package spelling finds the name that somebody meant by a misspelt one, and lists the names that there are.
package spelling

import (
	"fmt"
	"strings"

	"github.com/agnivade/levenshtein"
)

// maxName bounds the names that are compared, in bytes: the time grows with the product of two lengths.
const maxName = 128

// Nearest returns the candidate that is most similar to name, or "" if none is similar enough. Upper and lower case
// do not count.
func Nearest(name string, candidates []string) string {
	if len(name) > maxName {
		return ""
	}
	name = strings.ToLower(name)
	best, least := "", max(2, len(name)/3)+1
	for _, c := range candidates {
		if d := levenshtein.ComputeDistance(name, strings.ToLower(c)); d < least {
			best, least = c, d
		}
	}
	return best
}

// Suggest returns the end of an error about an unknown name: it asks for the nearest candidate. It returns "" if no
// candidate is similar enough.
func Suggest(name string, candidates []string) string {
	best := Nearest(name, candidates)
	if best == "" {
		return ""
	}
	return fmt.Sprintf(", did you mean %q?", best)
}

// AnyOf joins the texts as in "GET, POST or DELETE".
func AnyOf(texts []string) string {
	last := len(texts) - 1
	if last < 1 {
		return strings.Join(texts, "")
	}
	return strings.Join(texts[:last], ", ") + " or " + texts[last]
}
