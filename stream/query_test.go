package stream

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// parseRequest reads a request as [Handler.Events] does.
func parseRequest(t *testing.T, req *http.Request, now time.Time) (streamRequest, error) {
	t.Helper()
	query, err := ParseQuery(req.URL.RawQuery)
	if err != nil {
		return streamRequest{}, err
	}
	return readRequest(req.Header, query, now)
}

// TestParseQuery decodes queries in order. Only an id may be impossible to decode, and then it comes last.
func TestParseQuery(t *testing.T) {
	for raw, want := range map[string]Query{
		"":                                     nil,
		"&&":                                   {},
		"a=1&&b=2&a=3&":                        {{Name: "a", Value: "1"}, {Name: "b", Value: "2"}, {Name: "a", Value: "3"}},
		"us%65r=a%20b+c&x&=y":                  {{Name: "user", Value: "a b c"}, {Name: "x"}, {Value: "y"}},
		"a=b=c":                                {{Name: "a", Value: "b=c"}},
		"lastEventId=%zz&lastEventId=1":        {{Name: "lastEventId", Value: "1"}, {Name: "lastEventId", Value: "lastEventId=%zz", Unknown: true}},
		"lastEventId=1;b":                      {{Name: "lastEventId", Value: "lastEventId=1;b", Unknown: true}},
		"a=1" + strings.Repeat("&", maxParams): {{Name: "a", Value: "1"}},
	} {
		if got, err := ParseQuery(raw); err != nil || !cmp.Equal(got, want) {
			t.Errorf("%q: %v, error %v, want %v", raw, got, err, want)
		}
	}
	for raw, want := range map[string]string{
		"a=%zz":                                  `"a" cannot be decoded`,
		"a=1;b=2":                                `"a" cannot be decoded`,
		"a;lastEventId=1":                        `"a;lastEventId" cannot be decoded`,
		"b;c&lastEventId=1":                      `"b;c" cannot be decoded`,
		"%zz=1":                                  `"%zz" cannot be decoded`,
		"last%45ventId=%zz":                      `"last%45ventId" cannot be decoded`,
		strings.Repeat("x%", 65):                 "with a long name cannot be decoded",
		"a=1" + strings.Repeat("&", maxParams+1): "too many",
	} {
		if got, err := ParseQuery(raw); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, error %v, want one with %s", raw, got, err, want)
		}
	}
}

// FuzzParseQuery compares ParseQuery with net/url. ParseQuery refuses the parameters that net/url silently drops.
func FuzzParseQuery(f *testing.F) {
	for _, raw := range []string{"", "a=1&b=2", "a=%zz", "a;b", "lastEventId=%", "+=+", "&=&", "%3D=%26&a=b=c"} {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		got, err := ParseQuery(raw)
		want, refused := url.ParseQuery(raw)
		values := make(url.Values)
		for _, p := range got {
			if p.Unknown {
				refused = nil
				continue
			}
			values.Add(p.Name, p.Value)
		}
		if (err == nil) != (refused == nil) && strings.Count(raw, "&") <= maxParams {
			t.Fatalf("%q: error %v, net/url %v", raw, err, refused)
		}
		if err == nil && !cmp.Equal(values, want) {
			t.Fatalf("%q: %v, net/url %v", raw, values, want)
		}
	})
}

func BenchmarkParseQuery(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseQuery("user=user-123456&lastEventId=1~lgtksehthk5b.0-41~her949gt2mqv.2-0~jh7b196t3g0c"); err != nil {
			b.Fatal(err)
		}
	}
}
