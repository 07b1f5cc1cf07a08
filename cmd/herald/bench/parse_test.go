package bench

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

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

// bodyOf pushes a response and returns its body.
func bodyOf(pieces ...[]byte) (body string, ended bool, err error) {
	var r response
	var text strings.Builder
	for _, p := range pieces {
		if !r.begun {
			if p, err = r.readHead(p); err != nil {
				return "", false, err
			}
		}
		for len(p) > 0 && !r.ended {
			var data []byte
			if data, p, err = r.nextData(p); err != nil {
				return text.String(), false, err
			}
			text.Write(data)
		}
	}
	return text.String(), r.ended, nil
}

const chunkedHead = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\ntransfer-encoding: Chunked\r\n\r\n"

// FuzzChunks encodes a body as chunks of random sizes and reads it in pieces of other sizes.
func FuzzChunks(f *testing.F) {
	f.Add([]byte("data: x\n\n"), uint64(1))
	f.Add(bytes.Repeat([]byte("0123456789abcdef"), 40), uint64(2))
	f.Fuzz(func(t *testing.T, body []byte, seed uint64) {
		text := []byte(chunkedHead)
		for i, chunk := range pieces(body, seed) {
			text = fmt.Appendf(text, "%x%s\r\n%s\r\n", len(chunk), []string{"", ";a=b", " ", "; \"x\""}[i%4], chunk)
		}
		text = append(text, "0\r\nTrailer: x\r\n\r\n"...)
		for _, list := range [][][]byte{{text}, pieces(text, seed+1)} {
			got, ended, err := bodyOf(list...)
			if err != nil || !ended || got != string(body) {
				t.Errorf("%q, ended %v, %v: want %q", got, ended, err, body)
			}
		}
		if _, ended, err := bodyOf(text[:len(text)-2]); ended || err != nil {
			t.Errorf("cut before its end: ended %v, %v", ended, err)
		}
	})
}

func FuzzResponse(f *testing.F) {
	f.Add([]byte(chunkedHead+"5\r\nhello\r\n"), uint64(1))
	f.Fuzz(func(_ *testing.T, text []byte, seed uint64) {
		_, _, _ = bodyOf(pieces(text, seed)...)
	})
}

func TestResponses(t *testing.T) {
	for name, test := range map[string]struct{ text, want string }{
		"expired":         {"HTTP/1.1 401 Unauthorized\r\nContent-Length: 60\r\n\r\n" + `{"error":{"reason":"expired","message":"the token expired"}}`, "the server says 401 Unauthorized: the token expired"},
		"refused":         {"HTTP/1.1 401 Unauthorized\r\nContent-Length: 41\r\n\r\n" + `{"error":{"message":"no token, said he"}}`, "the server says 401 Unauthorized: no token, said he: give --jwt-secret-file or a valid --token-file"},
		"nothing there":   {"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "the server says 404 Not Found: is the path of --url right?"},
		"no token":        {"HTTP/1.1 400 Bad Request\r\nContent-Length: 66\r\n\r\n" + `{"error":{"message":"no effect: the token says who the user is"}}  `, "the token says who the user is: give --jwt-secret-file or --token-file"},
		"a page":          {"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n", `the server answers with "text/html", not with an event stream`},
		"no HTTP":         {"SSH-2.0-OpenSSH\r\n\r\n", "the server does not speak HTTP/1.1"},
		"endless head":    {"HTTP/1.1 200 OK\r\n" + strings.Repeat("x", maxHead), "larger than 64 KiB"},
		"no chunk's size": {chunkedHead + "x\r\n", errFraming.Error()},
		"huge chunk":      {chunkedHead + "ffffffffffffffff\r\n", errFraming.Error()},
		"long chunk":      {chunkedHead + "1\r\nab\r\n", errFraming.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := bodyOf([]byte(test.text))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
			if err != nil && !isRefusal(err) {
				t.Errorf("%v: would be tried again", err)
			}
		})
	}
}

// TestTally compares a tally with a set of all numbers that have arrived.
func TestTally(t *testing.T) {
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 0))
		var got tally
		seen := make(map[uint64]bool)
		last := uint64(0)
		const sent = 60
		for range random.IntN(90) {
			n := 1 + random.Uint64N(sent)
			want := inOrder
			if seen[n] {
				want = again
			} else if n < last {
				want = outOfOrder
			}
			if v := got.add(n); v != want {
				t.Fatalf("seed %d: %d is %v, want %v", seed, n, v, want)
			}
			seen[n], last = true, max(last, n)
		}
		if lost := got.lost(sent); lost != uint64(sent-len(seen)) {
			t.Fatalf("seed %d: %d lost, want %d", seed, lost, sent-len(seen))
		}
	}
}

func TestValue(t *testing.T) {
	largest := value{1<<32 - 1, 1<<31 - 1, 1 << 50, time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano()}
	for _, v := range []value{{1, 2, 3, 4}, {}, largest} {
		for _, size := range []int{MinSize, 1000} {
			text := v.append(nil, size)
			got, ok := parseValue(text)
			if !ok || got != v || len(text) != size {
				t.Errorf("%s: %v %v of %d bytes, want %v of %d", text, got, ok, len(text), v, size)
			}
		}
	}
	for _, text := range []string{"", "{}", valueMagic, valueMagic + "1 2 3", valueMagic + "1 2 3 x ", valueMagic + "1 2 3 99999999999999999999 "} {
		if v, ok := parseValue([]byte(text)); ok {
			t.Errorf("%q is %v", text, v)
		}
	}
}

// TestNothingIsAllocated reads events in the form that a server writes. Counting an event must not
// allocate memory.
func TestNothingIsAllocated(t *testing.T) {
	r := &run{id: 7}
	sh := &shard{run: r, results: newResults()}
	s := &client{shard: sh, response: response{begun: true, chunked: true}}
	var text []byte
	number := uint64(0)
	order := bareOrder{Run: 7, Size: 128, Frame: 200}
	allocated := testing.AllocsPerRun(1000, func() {
		number++
		text = appendBare(text[:0], value{7, 0, number, 1}, order)
		if err := s.receiveLocked(text, 2000); err != nil {
			t.Fatal(err)
		}
	})
	if allocated > 0 || s.got.last != number || len(text) != order.Frame {
		t.Errorf("%v allocations for an event of %d bytes; %d of %d came", allocated, len(text), s.got.last, number)
	}
}

// BenchmarkReceive measures the tool's CPU time for an event, without reading the socket.
func BenchmarkReceive(b *testing.B) {
	sh := &shard{run: &run{id: 7}, results: newResults()}
	s := &client{shard: sh, response: response{begun: true, chunked: true}}
	order := bareOrder{Run: 7, Size: 128, Frame: 200}
	var text []byte
	for number := uint64(1); number <= 1000; number++ {
		text = appendBare(text, value{7, 0, number, 1}, order)
	}
	b.ReportAllocs()
	for b.Loop() {
		s.got = tally{}
		for event := range slices.Chunk(text, order.Frame) {
			if err := s.receiveLocked(event, 2000); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*1000), "ns/event")
}
