package consumer

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestUserIsFoundInJSONValue checks which user a JSON pointer (RFC 6901) finds in a record's value. A value
// that is ambiguous, malformed or nested too deeply names no user.
func TestUserIsFoundInJSONValue(t *testing.T) {
	deep := strings.Repeat(`[`, 9_000) + `"x"` + strings.Repeat(`]`, 9_000)
	tooDeep := strings.Repeat(`{"a":`, 1_000_000) + `1`
	for name, test := range map[string]struct{ value, pointer, want, missing string }{
		"member":                 {`{"x":1,"owner":"alice","y":[{}]}`, "/owner", "alice", ""},
		"in an object":           {` {"owner":{"id":"alice"}} `, "/owner/id", "alice", ""},
		"in a list":              {`{"to":[{"id":"a"},{"id":"b"}]}`, "/to/1/id", "b", ""},
		"escaped in the value":   {`{"own\u0065r":"\u00e9\"\n"}`, "/owner", "é\"\n", ""},
		"escaped in the path":    {`{"a/b":{"~":"alice"}}`, "/a~1b/~0", "alice", ""},
		"~01 is ~1":              {`{"~1":"alice"}`, "/~01", "alice", ""},
		"empty name":             {`{"":"alice"}`, "/", "alice", ""},
		"digits as a name":       {`{"0":"alice"}`, "/0", "alice", ""},
		"after a deep value":     {`{"deep":` + deep + `,"owner":"alice"}`, "/owner", "alice", ""},
		"after a huge number":    {`{"n":` + strings.Repeat("9", 1<<20) + `e999999999,"owner":"alice"}`, "/owner", "alice", ""},
		"no such member":         {`{"x":"alice"}`, "/owner", "", ownerlessNoField},
		"integer":                {`{"owner":9007199254740993}`, "/owner", "9007199254740993", ""},
		"negative integer":       {`{"owner": -7 }`, "/owner", "-7", ""},
		"fraction":               {`{"owner":1.0}`, "/owner", "", ownerlessWrongType},
		"exponent":               {`{"owner":1e3}`, "/owner", "", ownerlessWrongType},
		"minus zero":             {`{"owner":-0}`, "/owner", "", ownerlessWrongType},
		"leading zero":           {`{"owner":01}`, "/owner", "", ownerlessNotJSON},
		"not a name":             {`{"owner":true}`, "/owner", "", ownerlessWrongType},
		"null":                   {`{"owner":null}`, "/owner", "", ownerlessWrongType},
		"an object":              {`{"owner":{"id":"alice"}}`, "/owner", "", ownerlessWrongType},
		"empty":                  {`{"owner":""}`, "/owner", "", ownerlessEmpty},
		"below a string":         {`{"owner":"alice"}`, "/owner/id", "", ownerlessNoField},
		"index out of range":     {`["alice"]`, "/1", "", ownerlessNoField},
		"index with a zero":      {`["a","b"]`, "/01", "", ownerlessNoField},
		"after the last element": {`["alice"]`, "/-", "", ownerlessNoField},
		"the name twice":         {`{"owner":"alice","owner":"bob"}`, "/owner", "", ownerlessNotJSON},
		"twice, escaped":         {`{"owner":"alice","own\u0065r":"bob"}`, "/owner", "", ownerlessNotJSON},
		"another name twice":     {`{"owner":"alice","x":{"a":1,"a":2}}`, "/owner", "", ownerlessNotJSON},
		"cut short":              {`{"owner":"alice"`, "/owner", "", ownerlessNotJSON},
		"two texts":              {`{"owner":"alice"}{}`, "/owner", "", ownerlessNotJSON},
		"not JSON after it":      {`{"owner":"alice",x}`, "/owner", "", ownerlessNotJSON},
		"not UTF-8":              {"{\"owner\":\"\xff\"}", "/owner", "", ownerlessNotJSON},
		"half a surrogate pair":  {`{"owner":"\ud800"}`, "/owner", "", ownerlessNotJSON},
		"too deep":               {tooDeep, "/owner", "", ownerlessNotJSON},
		"too deep, on the way":   {tooDeep, strings.Repeat("/a", 1_000_000), "", ownerlessNotJSON},
		"nothing":                {"", "/owner", "", ownerlessNotJSON},
		"a string alone":         {`"alice"`, "/owner", "", ownerlessNoField},
		"not JSON, no member":    {`{"x":1}}`, "/owner", "", ownerlessNotJSON},
		"not JSON, not a string": {`{"owner":1`, "/owner", "", ownerlessNotJSON},
	} {
		if got, missing, _ := userInValue([]byte(test.value), test.pointer); string(got) != test.want || missing != test.missing {
			t.Errorf("%s: the user is %q, %q, want %q, %q", name, got, missing, test.want, test.missing)
		}
	}
}

// FuzzUserInValue checks each user found against the whole value as the standard library decodes it: the
// same string must be there.
func FuzzUserInValue(f *testing.F) {
	f.Add([]byte(`{"owner":{"id":"alice"},"x":[1,"y"]}`), "/owner/id")
	f.Add([]byte(`["a",{"b/c":"d"}]`), "/1/b~1c")
	f.Add([]byte(`{"a":"x","a":"y"}`), "/a")
	f.Add([]byte(`{"a":[[[[1e999]]]],"b":"\u0000\ud83d\ude42"}`), "/b")
	f.Fuzz(func(t *testing.T, value []byte, pointer string) {
		if checkPointer(pointer) != nil {
			return
		}
		before := string(value)
		got, missing, found := userInValue(value, pointer)
		if string(value) != before {
			t.Fatal("the value was changed")
		}
		if (missing == "") != (len(got) > 0) || (missing == ownerlessWrongType) != (found != "") {
			t.Fatalf("user %q with reason %q, found %q", got, missing, found)
		}
		if got == nil {
			return
		}
		var at any
		decoder := json.NewDecoder(strings.NewReader(before))
		decoder.UseNumber()
		if err := decoder.Decode(&at); err != nil {
			t.Fatalf("%q found in a value that is not JSON: %v", got, err)
		}
		for token := range strings.SplitSeq(pointer[1:], "/") {
			token = strings.ReplaceAll(strings.ReplaceAll(token, "~1", "/"), "~0", "~")
			switch v := at.(type) {
			case map[string]any:
				at = v[token]
			case []any:
				i, err := strconv.Atoi(token)
				if err != nil || i < 0 || i >= len(v) {
					t.Fatalf("%q found at %q, which does not exist", got, pointer)
				}
				at = v[i]
			}
		}
		if n, ok := at.(json.Number); ok {
			at = n.String()
		}
		if at != string(got) {
			t.Fatalf("%q found at %q, want %q", got, pointer, at)
		}
	})
}

// TestRecordsReachTheUserNamedInTheirValue checks that live reading and replays deliver records to the user
// named in the records' JSON values.
func TestRecordsReachTheUserNamedInTheirValue(t *testing.T) {
	c, sink, producer := start(t, []string{"orders"}, "orders,user=json:/owner")
	if _, err := c.Join(t.Context(), "alice"); err != nil {
		t.Fatal(err)
	}
	first := produce(t, producer, "orders", "k", `{"owner":"alice","n":1}`)
	for _, value := range []string{`{"owner":7}`, `{"owner":"bob"}`, "no JSON", `{"owner":"alice","owner":"bob"}`, `{"owner":"alice","n":2}`} {
		produce(t, producer, "orders", "k", value)
	}
	want := []string{` no JSON`, ` {"owner":"alice","owner":"bob"}`, `7 {"owner":7}`, `alice {"owner":"alice","n":1}`, `alice {"owner":"alice","n":2}`, `bob {"owner":"bob"}`}
	if diff := cmp.Diff(want, sink.sorted(t, 6)); diff != "" {
		t.Error(diff)
	}
	var again []string
	_, err := replayOne(t.Context(), c, first.Partition, topicID(t, c, "orders"), "alice", first.Offset, first.Offset+6, func(r *Record) bool {
		again = append(again, line(r))
		return true
	})
	if diff := cmp.Diff([]string{`alice {"owner":"alice","n":1}`, `alice {"owner":"alice","n":2}`}, again); err != nil || diff != "" {
		t.Errorf("replay: error %v, records (-want +got):\n%s", err, diff)
	}
}

// BenchmarkUserInValue measures finding the user in a value of about 300 bytes.
func BenchmarkUserInValue(b *testing.B) {
	value := []byte(`{"id":"0191e0a4-7c1d-7e6a-9b52-3c5d6f7a8b9c","owner":{"id":"alice"},"at":"2026-01-31T08:00:00Z","items":[{"sku":"a-1","n":1},{"sku":"b-2","n":2}],"text":"` + strings.Repeat("x", 128) + `"}`)
	b.SetBytes(int64(len(value)))
	b.ReportAllocs()
	for b.Loop() {
		if user, _, _ := userInValue(value, "/owner/id"); user == nil {
			b.Fatal("the user was not found")
		}
	}
}
