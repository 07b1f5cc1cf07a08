package tail

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// dispatched is an event as WHATWG HTML defines it: its id is the last event id, which an earlier event may
// have set.
type dispatched struct{ Kind, ID, Data string }

// referenceEvents reads a complete event stream line by line, as WHATWG HTML, section 9.2.6, is
// written. What follows the last blank line is dropped.
func referenceEvents(text string) (list []dispatched) {
	text = strings.TrimPrefix(text, bom)
	text = strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\r", "\n")
	lines := strings.Split(text, "\n")
	e, data := dispatched{}, []string(nil)
	for _, line := range lines[:len(lines)-1] {
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case line == "":
			if data != nil {
				list = append(list, dispatched{e.Kind, e.ID, strings.Join(data, "\n")})
			}
			e.Kind, data = "", nil
		case name == "event":
			e.Kind = value
		case name == "data":
			data = append(data, value)
		case name == "id" && !strings.Contains(value, "\x00"):
			e.ID = value
		}
	}
	return list
}

// eventsOf pushes the pieces to a reader.
func eventsOf(pieces ...[]byte) (list []dispatched) {
	var r BlockReader
	var b Block
	id := ""
	for _, p := range pieces {
		if err := r.Push(slices.Clone(p)); err != nil {
			panic(err)
		}
		for r.Next(&b) {
			if b.HasID {
				id = string(b.ID)
			}
			if b.HasData {
				list = append(list, dispatched{string(b.Type), id, string(b.Data)})
			}
		}
	}
	return list
}

// pieces cuts text at random.
func pieces(text []byte, seed uint64) (list [][]byte) {
	random := rand.New(rand.NewPCG(seed, 0))
	for len(text) > 0 {
		n := 1 + random.IntN(min(len(text), 9))
		list = append(list, text[:n])
		text = text[n:]
	}
	return list
}

func FuzzBlocks(f *testing.F) {
	for i, text := range []string{
		"id: 1\ndata: a\n\nid: 2\nevent: gap\ndata: b\ndata: c\n\n",
		"\xef\xbb\xbfdata: a\r\n\r\ndata:b\r\rid\r\n\ndata\n\n",
		":\n:\nretry: 10\n\n:\ndata:  x\n\nid: 3\n\ndata: cut",
		"id: a\x00b\ndata: x\n\n\n\n\n\xef\xbb\xbfdata: y\n\n",
		"\xef\xbb", "\r", "data\r\ndata\r\r\n:\r\r\n",
	} {
		f.Add([]byte(text), uint64(i))
	}
	f.Fuzz(func(t *testing.T, text []byte, seed uint64) {
		want := referenceEvents(string(text))
		if diff := cmp.Diff(want, eventsOf(text)); diff != "" {
			t.Errorf("whole: %s", diff)
		}
		if diff := cmp.Diff(want, eventsOf(pieces(text, seed)...)); diff != "" {
			t.Errorf("in pieces: %s", diff)
		}
	})
}

// TestReaderKeepsNoHeartbeats pushes only comments. The reader must not collect them.
func TestReaderKeepsNoHeartbeats(t *testing.T) {
	var r BlockReader
	var b Block
	for range 1000 {
		if err := r.Push([]byte(":\n")); err != nil {
			t.Fatal(err)
		}
		if r.Next(&b) {
			t.Fatal("a block without a blank line")
		}
	}
	if cap(r.buffer) > 64 {
		t.Errorf("%d bytes are kept", cap(r.buffer))
	}
}

// TestLongEventInSmallPieces reads an event of 2 MiB in pieces of 16 bytes. A reader that copies the event for each piece
// copies 128 GiB.
func TestLongEventInSmallPieces(t *testing.T) {
	var r BlockReader
	var b Block
	start := time.Now()
	piece := bytes.Repeat([]byte("x"), 16)
	for _, p := range slices.Concat([][]byte{[]byte("data:")}, slices.Repeat([][]byte{piece}, 2<<20/16), [][]byte{[]byte("\n\n")}) {
		if err := r.Push(p); err != nil {
			t.Fatal(err)
		}
		if r.Next(&b) {
			break
		}
	}
	if len(b.Data) != 2<<20 || time.Since(start) > 10*time.Second {
		t.Errorf("%d bytes after %v", len(b.Data), time.Since(start))
	}
}
