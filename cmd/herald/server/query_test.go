package server

import (
	"net/http"
	"strings"
	"testing"

	"herald/auth"
)

// TestQueryParameters sends parameters that are misspelt, of no effect, given twice, or empty. Each is refused with
// its name and the nearest one, and the parameters that clients and polyfills send are accepted.
func TestQueryParameters(t *testing.T) {
	open := startServer(t)
	closed := startSecured(t, nil)
	byQuery := startSecured(t, func(cfg *Config) { cfg.TokenQueryParameter = "token" })
	url := "http://" + open.Addr().String()
	token := bearer(closed.token(t, auth.Identity{User: "alice", Publish: true}))
	secretText := strings.Repeat("eyJhbGci", 12)
	for _, test := range []struct {
		method, url string
		header      http.Header
		want        string // of the message; empty: the request is accepted
	}{
		{http.MethodGet, url + "/events?user=alice", nil, ""},
		{http.MethodGet, url + "/events?user=alice&since=earliest&types=a,b&lastEventId=x", nil, ""},
		{http.MethodGet, url + "/events?user=alice&lastEventId=", nil, ""}, // the page of the README
		{http.MethodGet, url + "/events?user=alice&lastEventId=&lastEventId=x", nil, ""},
		{http.MethodGet, url + "/events?&user=alice&&", nil, ""},
		{http.MethodGet, url + "/events?user=alice&fields=time,key,pos,headers&format=json", nil, ""},
		{http.MethodGet, url + "/events?us%65r=alice", nil, ""},
		{http.MethodGet, url + "/events?user=alice&lastEventId=%zz", nil, ""}, // an unknown id
		{http.MethodPost, url + "/broadcast?type=news", nil, ""},
		{http.MethodGet, closed.url + "/events?since=now", token, ""},
		{http.MethodGet, closed.url + "/session", token, ""},
		{http.MethodGet, byQuery.url + "/events?token=" + strings.TrimPrefix(token.Get("Authorization"), "Bearer "), nil, ""},
		{http.MethodGet, byQuery.url + "/session?token=" + strings.TrimPrefix(token.Get("Authorization"), "Bearer "), nil, ""},

		{http.MethodGet, url + "/events?user=alice&sinse=earliest", nil, `unknown query parameter \"sinse\", did you mean \"since\"?`},
		{http.MethodGet, url + "/events?user=alice&Types=a", nil, `did you mean \"types\"?`},
		{http.MethodGet, url + "/events?user=alice&type=a", nil, `did you mean \"types\"?`},
		{http.MethodGet, url + "/events?user=alice&last-event-id=x", nil, `did you mean \"lastEventId\"?`},
		{http.MethodGet, url + "/events?userid=alice", nil, `did you mean \"user\"?`},
		{http.MethodGet, url + "/events?user=alice&since+=now", nil, `did you mean \"since\"?`},
		{http.MethodGet, url + "/events?user=alice&color=red", nil, `\"color\": this route takes user, since, types, `},
		{http.MethodGet, url + "/events?user=alice&" + secretText, nil, "with a long name"},
		{http.MethodGet, url + "/events?user=alice&since=now&since=earliest", nil, "since twice"},
		{http.MethodGet, url + "/events?user=alice&user=bob", nil, "user twice"},
		{http.MethodGet, url + "/events?user=alice&lastEventId=a&lastEventId=b", nil, "lastEventId twice"},
		{http.MethodGet, url + "/events?user=alice&types=", nil, "types is empty"},
		{http.MethodGet, url + "/events?user=alice&claim.team=red", nil, `\"claim.team\" has no effect: no topic of this server is for a claim`},
		{http.MethodGet, url + "/events?user=alice&since", nil, "since is empty"},
		{http.MethodGet, url + "/events?user=", nil, "user is empty"},
		{http.MethodGet, url + "/events?user=alice" + strings.Repeat("&", 10_001), nil, "too many parameters"},
		{http.MethodGet, url + "/events?user=alice&since=now;types=a", nil, `\"since\" cannot be decoded: percent-encode`},
		{http.MethodGet, url + "/events?user=alice&token=" + secretText, nil, "this server authenticates nobody"},
		{http.MethodGet, url + "/events?user=alice&field=key", nil, `did you mean \"fields\"?`},
		{http.MethodGet, url + "/events?user=alice&fields=tme", nil, `fields: \"tme\" is not a field: want some of time, key, pos and headers`},
		{http.MethodGet, url + "/events?user=alice&fields=", nil, "fields is empty"},
		{http.MethodGet, url + "/events?user=alice&format=xml", nil, `format: \"xml\": want json`},
		{http.MethodPost, url + "/broadcast?fields=key", nil, `unknown query parameter \"fields\"`},
		{http.MethodPost, url + "/broadcast?types=news", nil, `did you mean \"type\"?`},
		{http.MethodPost, url + "/broadcast?type=", nil, "type is empty"},
		{http.MethodPost, url + "/broadcast?user=alice", nil, "POST /users/{user}/notifications is for one user"},
		{http.MethodPost, url + "/users/alice/notifications?user=bob", nil, "user has no effect"},
		{http.MethodGet, closed.url + "/events?user=alice", token, "the token says who the user is"},
		{http.MethodGet, closed.url + "/events?token=" + secretText, nil, "takes no token in the query; send the header Authorization"},
		{http.MethodGet, closed.url + "/events?access_token=" + secretText, nil, "takes no token in the query"},
		{http.MethodPost, closed.url + "/session?user=alice", token, "the token says who the user is"},
		{http.MethodDelete, closed.url + "/session?all=1", token, `unknown query parameter \"all\": this route takes none`},
		{http.MethodGet, byQuery.url + "/events?access_token=" + secretText, nil, `did you mean \"token\"?`},
		{http.MethodGet, byQuery.url + "/events?token=", token, "token is empty"},
		{http.MethodGet, byQuery.url + "/events?token=a&token=b", nil, "conflicting-tokens"},
		{http.MethodGet, byQuery.url + "/events?token=a" + strings.Repeat("&", 10_001), token, "too many parameters"},
		{http.MethodGet, byQuery.url + "/events?token=a;lastEventId=x", token, `\"token\" cannot be decoded`},
		{http.MethodPost, byQuery.url + "/session?token=" + secretText, token, "takes no token in the query"},
	} {
		status, _, body := request(t, test.method, test.url, test.header)
		if (status < 300) != (test.want == "") || status >= 300 && status != http.StatusBadRequest || !strings.Contains(body, test.want) {
			t.Errorf("%s %s: %d %s, want %q", test.method, test.url, status, body, test.want)
		}
		if strings.Contains(body, secretText) {
			t.Errorf("%s %s: the answer has the token: %s", test.method, test.url, body)
		}
	}
	for _, s := range []*secured{closed, byQuery} {
		if strings.Contains(s.log.String(), secretText) {
			t.Error("the token is in the log")
		}
	}
}

// TestPageTakesAnyParameter opens the demo page with the parameters that the page reads itself.
func TestPageTakesAnyParameter(t *testing.T) {
	srv, _ := startServerWith(t, func(cfg *Config) { cfg.Demo = true })
	if status, body := call(t, http.MethodGet, "http://"+srv.Addr().String()+"/?user=alice&x", ""); status != http.StatusOK {
		t.Errorf("%d %s", status, body)
	}
	if status, body := call(t, http.MethodPost, "http://"+srv.Addr().String()+"/demo/tasks?user=alice", ""); status != http.StatusBadRequest || !strings.Contains(body, "this route takes none") {
		t.Errorf("%d %s, want the parameter refused", status, body)
	}
}
