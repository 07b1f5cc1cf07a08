package server

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/labstack/echo/v4"

	"herald/consumer/spelling"
	"herald/stream"
)

// The query parameters that are not a stream's.
const (
	paramUser = "user" // of a stream that authenticates nobody, see [auth.Insecure]
	paramType = "type" // of a notification that is published
)

var streamParams = []string{stream.ParamSince, stream.ParamTypes, stream.ParamLastID}

// tokenParams are names under which clients send a token in the query.
var tokenParams = []string{"token", "access_token", "jwt", "bearer", "auth"}

// maxShownName bounds the name of an unknown parameter in an answer. A token without a name is longer.
const maxShownName = 64

// maxParams bounds the parameters of a query, empty ones too. [url.ParseQuery] returns none of them if there are more
// than 10,000: a token beside another one would then be overlooked.
const maxParams = 100

// queryRules refuse query parameters without an effect. A client would rely on the effect: with ?sinse=earliest, it would
// take a stream from now for a stream from the beginning.
type queryRules struct {
	front  *frontDoor
	signIn bool   // tokens say who the user is
	token  string // the parameter that may hold the token; empty: none
}

// only refuses requests with other parameters than names, with a parameter that is given twice, and with an empty one.
// byToken says that the route authenticates: it then takes the parameter of the token too.
func (q queryRules) only(byToken bool, names ...string) echo.MiddlewareFunc {
	if byToken && q.token != "" {
		names = append(slices.Clone(names), q.token)
	}
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			if err := q.check(c.Request().URL.RawQuery, names); err != nil {
				q.front.recordRefusal(c, reasonQuery, err)
				return err
			}
			return next(c)
		}
	}
}

// check returns a refusal that names the first wrong parameter. It never repeats a parameter's value, which may be a
// token.
func (q queryRules) check(rawQuery string, names []string) error {
	wrong := func(message string) error { return refuse(http.StatusBadRequest, codeBadRequest, message) }
	if strings.Count(rawQuery, "&") > maxParams {
		return wrong("the query has too many parameters")
	}
	given := make(map[string]bool, len(names))
	for pair := range strings.SplitSeq(rawQuery, "&") {
		if pair == "" {
			continue
		}
		if _, err := url.ParseQuery(pair); err != nil {
			if slices.Contains(names, stream.ParamLastID) && strings.HasPrefix(pair, stream.ParamLastID+"=") {
				continue // an unknown id, which a gap reports
			}
			name, _, _ := strings.Cut(pair, "=")
			return wrong("the query parameter " + shownName(name) + " cannot be decoded: percent-encode what is not a letter or a digit")
		}
		name, value, _ := strings.Cut(pair, "=")
		name, _ = url.QueryUnescape(name) // ParseQuery has accepted it
		switch {
		case !slices.Contains(names, name):
			return wrong(q.explainUnknown(name, names))
		case value == "" && name == stream.ParamLastID: // a page has no id yet
		case value == "":
			return wrong("the query parameter " + name + " is empty: leave it out, or give it a value")
		case given[name] && name != q.token: // auth refuses two tokens
			return wrong("the query has the parameter " + name + " twice: give it once")
		default:
			given[name] = true
		}
	}
	return nil
}

// explainUnknown returns the message about a parameter that has no effect.
func (q queryRules) explainUnknown(name string, names []string) string {
	switch {
	case name == paramUser && slices.Contains(names, paramType):
		return "the query parameter user has no effect: POST /users/{user}/notifications is for one user, and POST /broadcast for everyone"
	case name == paramUser && q.signIn:
		return "the query parameter user has no effect: the token says who the user is; leave the parameter out"
	case !q.signIn && slices.Contains(tokenParams, name):
		return "the query parameter " + name + " has no effect: this server authenticates nobody; leave the parameter out"
	case name == q.token, q.token == "" && slices.Contains(tokenParams, name):
		return "the query parameter " + name + " has no effect: this route takes no token in the query; send the header Authorization: Bearer TOKEN, or the session cookie"
	}
	text := "unknown query parameter " + shownName(name)
	if q.token != "" && slices.Contains(names, q.token) && slices.Contains(tokenParams, name) {
		return fmt.Sprintf("%s, did you mean %q?", text, q.token)
	}
	if suggestion := spelling.Suggest(name, names); suggestion != "" {
		return text + suggestion
	}
	if len(names) == 0 {
		return text + ": this route takes none"
	}
	return text + ": this route takes " + strings.Join(names, ", ")
}

// shownName returns the name in quotes. It does not show a long name, because the name may be a token.
func shownName(name string) string {
	if len(name) > maxShownName {
		return "with a long name"
	}
	return fmt.Sprintf("%q", name)
}
