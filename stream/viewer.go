package stream

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"slices"
)

// name returns an opaque name of the viewer. On all replicas, requests have the same name if they may see the same
// records: those of one user, of the same event types and topics. Tabs of a browser share a stream only under one
// name, so the name differs wherever a record could reach a wrong viewer. Nobody can choose a user whose name is
// another user's: the name has 120 bits of a hash.
func (v Viewer) name() string {
	sorted := func(list []string) []string {
		list = slices.Clone(list)
		slices.Sort(list)
		return slices.Compact(list)
	}
	// %q keeps apart what JSON would not, such as different bytes that are not UTF-8. A nil list is not an empty one.
	text := fmt.Appendf(nil, "%q %t%q %t%q", v.User, v.Types == nil, sorted(v.Types), v.Topics == nil, sorted(v.Topics))
	sum := sha256.Sum256(text)
	return base64.RawURLEncoding.EncodeToString(sum[:15])
}
