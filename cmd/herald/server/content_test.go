package server

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"herald/auth"
)

// TestContent publishes bodies with valid and with other headers. The server refuses a body that people would not
// see as text, and says why.
func TestContent(t *testing.T) {
	srv := startServer(t)
	for _, test := range []struct {
		name   string
		header http.Header
		body   string
		code   string // empty: the server takes the notification
		want   string // in the message
	}{
		{"no header", nil, "x", "", ""},
		{"no body", nil, "", "", ""},
		{"JSON", headers("Content-Type", "application/json"), "{}", "", ""},
		{"UTF-8", headers("Content-Type", "text/plain; charset=utf-8"), "日本", "", ""},
		{"UTF-8 in upper case and quotes", headers("Content-Type", `text/plain; Charset="UTF-8"`), "x", "", ""},
		{"US-ASCII", headers("Content-Type", "text/plain; charset=US-ASCII"), "x", "", ""},
		{"a structured suffix", headers("Content-Type", "application/cloudevents+json"), "x", "", ""},
		{"what curl -d sends", headers("Content-Type", "application/x-www-form-urlencoded"), `{"text":"x"}`, "", ""},

		{"not a type", headers("Content-Type", "nonsense/"), "x", "content-type", "application/json"},
		{"a word", headers("Content-Type", "json"), "x", "content-type", "application/json"},
		{"a word with a charset", headers("Content-Type", "text; charset=utf-8"), "x", "content-type", "application/json"},
		{"a space", headers("Content-Type", " "), "x", "", ""}, // HTTP removes it, so the type is empty
		{"a parameter without a value", headers("Content-Type", "text/plain; charset"), "x", "content-type", "application/json"},
		{"two types in one line", headers("Content-Type", "text/plain, text/html"), "x", "content-type", "application/json"},
		{"two types in two lines", headers("Content-Type", "text/plain", "Content-Type", "text/html"), "x", "content-type", "application/json"},
		{"a long type", headers("Content-Type", "text/"+strings.Repeat("x", 255)), "x", "content-type", "255 bytes"},
		{"what curl -F sends", headers("Content-Type", "multipart/form-data; boundary=x"), "x", "content-type", "form"},
		{"Latin-1", headers("Content-Type", "text/plain; charset=ISO-8859-1"), "x", "content-type", `charset "ISO-8859-1": send the text in UTF-8`},
		{"UTF-16", headers("Content-Type", "application/json; charset=utf-16"), "x", "content-type", `charset "utf-16"`},
		{"an empty charset", headers("Content-Type", `text/plain; charset=""`), "x", "content-type", `charset ""`},

		{"identity", headers("Content-Encoding", "identity"), "x", "", ""},
		{"empty elements and upper case", headers("Content-Encoding", " , IDENTITY,,"), "x", "", ""},
		{"an empty coding", headers("Content-Encoding", ""), "x", "", ""},
		{"gzip", headers("Content-Encoding", "gzip"), "x", "content-encoding", `"gzip"`},
		{"gzip in upper case", headers("Content-Encoding", "X-GZIP"), "x", "content-encoding", `"X-GZIP"`},
		{"br", headers("Content-Encoding", "br"), "x", "content-encoding", `"br"`},
		{"zstd after identity", headers("Content-Encoding", "identity, zstd"), "x", "content-encoding", `"zstd"`},
		{"deflate in a second line", headers("Content-Encoding", "identity", "Content-Encoding", ",deflate"), "x", "content-encoding", `"deflate"`},
		{"a signed upload", headers("Content-Encoding", "aws-chunked"), "x", "content-encoding", `"aws-chunked"`},
		{"8bit", headers("Content-Transfer-Encoding", "8bit"), "x", "", ""},
		{"base64 as in mail", headers("Content-Transfer-Encoding", "Base64"), "eA==", "content-encoding", `"Base64"`},

		{"UTF-16, little end first", nil, "\xff\xfeh\x00i\x00", "not-text", "UTF-16"},
		{"UTF-16, big end first", nil, "\xfe\xff\x00h\x00i", "not-text", "UTF-16"},
		{"byte order mark", nil, "\ufeff{}", "not-text", "byte order mark"},
		{"Latin-1 without a header", nil, "gr\xfc\xdfe", "not-text", "byte 3 of the body"},
		{"gzip without a header", nil, "\x1f\x8b\x08\x00", "not-text", "byte 2 of the body"},
		{"a cut character", nil, "日本"[:5], "not-text", "byte 4 of the body"},
		{"a replacement character", nil, "\ufffd", "", ""},
	} {
		status, header, body := send(t, http.MethodPost, "http://"+srv.Addr().String()+"/broadcast", test.body, test.header)
		want := http.StatusUnsupportedMediaType
		if test.code == "" {
			want = http.StatusCreated
		}
		var answer struct{ Error errorBody }
		if err := json.Unmarshal([]byte(body), &answer); err != nil || status != want || answer.Error.Code != test.code || !strings.Contains(answer.Error.Message, test.want) {
			t.Errorf("%s: %d %s, want %d, %q and a message with %q", test.name, status, body, want, test.code, test.want)
		}
		if got := header.Get("Accept-Encoding"); (got == "identity") != (test.code == "content-encoding" && test.header["Content-Encoding"] != nil) {
			t.Errorf("%s: Accept-Encoding %q", test.name, got)
		}
	}
}

// TestContentOfTasks starts a task of the demo page by a compressed body, in another charset, and by bytes that are
// not UTF-8.
func TestContentOfTasks(t *testing.T) {
	s := startSecured(t, func(cfg *Config) { cfg.Demo = true })
	token := s.token(t, auth.Identity{User: "alice", Publish: true})
	for _, test := range []struct {
		pairs  []string
		name   string
		status int
	}{
		{[]string{"Content-Type", "application/json", "Content-Encoding", "gzip"}, "Report", http.StatusUnsupportedMediaType},
		{[]string{"Content-Type", "application/json; charset=latin1"}, "Report", http.StatusUnsupportedMediaType},
		{[]string{"Content-Type", "application/json"}, "gr\xfc\xdfe", http.StatusBadRequest},
		{[]string{"Content-Type", "application/json"}, "grüße", http.StatusAccepted},
	} {
		header := headers(append(test.pairs, "Authorization", "Bearer "+token)...)
		status, _, body := send(t, http.MethodPost, s.url+"/demo/tasks", `{"user":"alice","name":"`+test.name+`","seconds":1}`, header)
		if status != test.status {
			t.Errorf("%v: %d %s, want %d", test, status, body, test.status)
		}
	}
}
