package stream

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
)

// name returns an opaque name of the viewer: a hash of the user and of the records that the viewer may see. It is the same on all
// replicas. Tabs of a browser share a stream only if their viewers have the same name, so two viewers that may get
// different records have different names. Nobody can choose a user to get another user's name: it has 120 bits.
func (v Viewer) name() string {
	sorted := func(list []string) []string {
		list = slices.Clone(list)
		slices.Sort(list)
		return slices.Compact(list)
	}
	// %q keeps apart what JSON would not, such as different bytes that are not UTF-8. A nil list is not an empty one.
	text := fmt.Appendf(nil, "%q %t%q %t%q", v.User, v.Types == nil, sorted(v.Types), v.Topics == nil, sorted(v.Topics))
	for _, claim := range slices.Sorted(maps.Keys(v.Claims)) {
		if len(v.Claims[claim]) > 0 {
			text = fmt.Appendf(text, " %q%q", claim, sorted(v.Claims[claim]))
		}
	}
	if v.Where != nil { // sorted, by consumer.ParseConditions
		text = fmt.Appendf(text, " where%q", v.Where)
	}
	sum := sha256.Sum256(text)
	return base64.RawURLEncoding.EncodeToString(sum[:15])
}
