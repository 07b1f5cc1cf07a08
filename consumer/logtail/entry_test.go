package logtail

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"herald/consumer/batch"
)

// FuzzEntry checks that an entry decodes to the record that was appended, and for the record's user only.
func FuzzEntry(f *testing.F) {
	f.Add([]byte("user"), []byte("key"), []byte("value"), "header", []byte("x"), int64(5), uint8(0))
	f.Add([]byte("user"), []byte("user"), []byte(""), "", []byte(""), int64(1)<<60, uint8(7))
	f.Add([]byte(""), []byte(""), []byte(""), "", []byte(""), int64(0), uint8(3))
	f.Fuzz(func(t *testing.T, user, key, value []byte, headerKey string, headerValue []byte, number int64, flags uint8) {
		want := batch.Record{Offset: number, Time: time.UnixMilli(number % 1e15), Key: key, Value: value}
		if flags&1 != 0 {
			want.Key = nil
		}
		if flags&2 != 0 {
			want.Value = nil
		}
		if flags&4 != 0 {
			want.Headers = []batch.Header{{Key: headerKey, Value: headerValue}, {Key: headerKey}}
		}
		length := userLength(user, &want)
		b := appendEntry(nil, address(flags), 7, 9, length, user, &want)
		if size := entrySize(length, &want); len(b) != size {
			t.Fatalf("the entry takes %d bytes, entrySize returned %d", len(b), size)
		}
		e := entry(slices.Concat(b, []byte("the next entry")))
		var got batch.Record
		var d batch.FieldsDecoder
		if owner, ok := e.decode([][]byte{append(user, 'x'), user}, &d, &got); !ok || !bytes.Equal(owner, user) || e.previous() != address(flags) || e.log() != 7 || e.fingerprint() != 9 {
			t.Fatal("the entry belongs to another user, or its header differs")
		}
		if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(batch.Record{})); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
		if _, ok := e.decode([][]byte{append(user, 'x')}, &d, &got); ok {
			t.Fatal("the entry belongs to another user as well")
		}
	})
}
