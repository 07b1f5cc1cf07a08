package stream

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// Query is the decoded query of a request, in the order of its parameters. [QueryOf] decodes it once for everybody who
// looks at it: most requests open a stream, and many streams open at once.
type Query []QueryParam

// QueryParam is a parameter of a query.
type QueryParam struct {
	Name, Value string
	Unknown     bool // an id that cannot be decoded: Value is its text, and a gap reports it. It comes after the others.
}

// maxParams bounds the parameters of a query, empty ones too.
const maxParams = 100

// maxShownName bounds the name of a parameter in an answer. A token without a name is longer.
const maxShownName = 64

// ParseQuery decodes a query. The error is meant for the client. It never repeats a parameter's value, which may be a
// token.
func ParseQuery(raw string) (Query, error) {
	if raw == "" {
		return nil, nil
	}
	pairs := strings.Count(raw, "&") + 1
	if pairs > maxParams+1 {
		return nil, errors.New("the query has too many parameters")
	}
	query := make(Query, 0, pairs)
	var unknown Query
	for pair := range strings.SplitSeq(raw, "&") {
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		decoded, err := url.QueryUnescape(name)
		if err == nil {
			value, err = url.QueryUnescape(value)
		}
		switch {
		case err == nil && !strings.Contains(pair, ";"): // net/url takes no semicolon: some servers separate parameters by it
			query = append(query, QueryParam{Name: decoded, Value: value})
		case name == ParamLastID:
			unknown = append(unknown, QueryParam{Name: name, Value: pair, Unknown: true})
		default:
			return nil, fmt.Errorf("the query parameter %s cannot be decoded: percent-encode what is not a letter or a digit", ShowParam(name))
		}
	}
	return append(query, unknown...), nil
}

// Has reports whether the query has a parameter of that name with a value.
func (q Query) Has(name string) bool { return q.Get(name) != "" }

// Get returns the first value of the parameter that is not empty; empty if there is none.
func (q Query) Get(name string) string {
	if i := slices.IndexFunc(q, func(p QueryParam) bool { return p.Name == name && p.Value != "" && !p.Unknown }); i >= 0 {
		return q[i].Value
	}
	return ""
}

// ShowParam returns the name of a parameter in quotes, for a message. It does not show a long name, because the name
// may be a token.
func ShowParam(name string) string {
	if len(name) > maxShownName {
		return "with a long name"
	}
	return fmt.Sprintf("%q", name)
}
