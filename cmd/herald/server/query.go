package server

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/labstack/echo/v4"

	"herald/auth"
	"herald/consumer/spelling"
	"herald/stream"
)

// The query parameters that are not a stream's.
const (
	paramUser = "user" // of a stream that authenticates nobody, see [auth.Insecure]
	paramType = "type" // of a notification that is published
)

// tokenParams are names under which clients send a token in the query.
var tokenParams = []string{"token", "access_token", "jwt", "bearer", "auth"}

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
			query, err := stream.QueryOf(c)
			if err == nil {
				err = q.check(query, names)
			}
			if err != nil {
				q.front.recordRefusal(c, reasonQuery, err)
				return refuse(http.StatusBadRequest, codeBadRequest, err.Error())
			}
			return next(c)
		}
	}
}

// check returns an error that names the first wrong parameter. It never repeats a parameter's value, which may be a
// token.
func (q queryRules) check(query stream.Query, names []string) error {
	for i, given := range query {
		name := given.Name
		switch {
		case !slices.Contains(names, name):
			return errors.New(q.explainUnknown(name, names))
		case given.Unknown, given.Value == "" && name == stream.ParamLastID: // a page has no id yet
		case given.Value == "":
			return fmt.Errorf("the query parameter %s is empty: leave it out, or give it a value", name)
		case query[:i].Has(name) && name != q.token && !isClaimParam(name): // auth refuses two tokens
			return fmt.Errorf("the query has the parameter %s twice: give it once", name)
		}
	}
	return nil
}

// isClaimParam reports whether the parameter holds a value of a claim. A query may have several values.
func isClaimParam(name string) bool { return strings.HasPrefix(name, auth.ClaimParam("")) }

// explainUnknown returns the message about a parameter that has no effect.
func (q queryRules) explainUnknown(name string, names []string) string {
	switch {
	case name == paramUser && slices.Contains(names, paramType):
		return "the query parameter user has no effect: POST /users/{user}/notifications is for one user, and POST /broadcast for everyone"
	case name == paramUser && q.signIn:
		return "the query parameter user has no effect: the token says who the user is; leave the parameter out"
	case isClaimParam(name) && q.signIn:
		return "the query parameter " + stream.ShowParam(name) + " has no effect: the token has the claims; leave the parameter out"
	case isClaimParam(name) && slices.Contains(names, paramUser) && !slices.ContainsFunc(names, isClaimParam):
		return "the query parameter " + stream.ShowParam(name) + " has no effect: no topic of this server is for a claim; add one such as --topic team-news,claim=team"
	case !q.signIn && slices.Contains(tokenParams, name):
		return "the query parameter " + name + " has no effect: this server authenticates nobody; leave the parameter out"
	case name == q.token, q.token == "" && slices.Contains(tokenParams, name):
		return "the query parameter " + name + " has no effect: this route takes no token in the query; send the header Authorization: Bearer TOKEN, or the session cookie"
	}
	text := "unknown query parameter " + stream.ShowParam(name)
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
