package stream

import (
	"cmp"
	"slices"
	"strings"
)

// The records of a topic with a claim ([consumer.Route.Claim]) are for all viewers that have a value of the claim, such as
// the members of a team. The hub keeps the streams of each value apart by the claim and the value: a user, a value of
// this claim and a value of another claim may all have the same name, and none of them gets the records of another.

// claimValue is a value of a claim.
type claimValue struct{ claim, value string }

func (v claimValue) compare(other claimValue) int {
	return cmp.Or(strings.Compare(v.claim, other.claim), strings.Compare(v.value, other.value))
}

// membership is a value of a claim that a stream's viewer has.
type membership struct {
	claimValue
	place int32 // among the readers of the value; guarded by readerSet.mu
}

// memberships are the values of claims that a stream's viewer has, sorted. They do not change, because the stream ends with
// the token.
type memberships []membership

// newMemberships returns the memberships for [Viewer.Claims]; nil if the viewer has no value. It copies the values, which
// may be parts of larger texts.
func newMemberships(claims map[string][]string) *memberships {
	var m memberships
	for claim, values := range claims {
		for _, value := range values {
			if value != "" { // a record that names no value is for nobody
				m = append(m, membership{claimValue: claimValue{strings.Clone(claim), strings.Clone(value)}})
			}
		}
	}
	if len(m) == 0 {
		return nil
	}
	slices.SortFunc(m, func(a, b membership) int { return a.compare(b.claimValue) })
	m = slices.Clip(slices.CompactFunc(m, func(a, b membership) bool { return a.claimValue == b.claimValue }))
	return &m
}

// valuesOf returns the values of a claim. m may be nil.
func (m *memberships) valuesOf(claim string) (values []string) {
	if m == nil {
		return nil
	}
	for i := range *m {
		if (*m)[i].claim == claim {
			values = append(values, (*m)[i].value)
		}
	}
	return values
}

// placeOf returns where the membership of the value keeps its place among the readers. The memberships must have the value.
func (m memberships) placeOf(v claimValue) *int32 {
	i, _ := slices.BinarySearchFunc(m, v, func(one membership, v claimValue) int { return one.compare(v) })
	return &m[i].place
}
