package logtail

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"herald/consumer/batch"
)

// owned is a record with its user.
type owned struct {
	user string
	batch.Record
}

// appendTo appends records to a log, which ends at the offset next afterwards.
func appendTo(l *Log, next int64, list ...owned) {
	Append(l, next, list, func(r *owned) ([]byte, *batch.Record) { return []byte(r.user), &r.Record })
}

// read collects the records that Log.Read passes on.
func read(l *Log, user string, from, to int64) (got []batch.Record, next int64, ok bool) {
	return readAll(l, []string{user}, from, to)
}

// readAll collects the records of several users that Log.Read passes on.
func readAll(l *Log, users []string, from, to int64) (got []batch.Record, next int64, ok bool) {
	names := make([][]byte, len(users))
	for i := range users {
		names[i] = []byte(users[i])
	}
	next, ok = l.Read(names, from, to, func(user []byte, r *batch.Record) bool {
		if !slices.Contains(users, string(user)) {
			panic(fmt.Sprintf("a record of %q for %q", user, users))
		}
		kept := *r
		kept.Headers = slices.Clone(r.Headers)
		got = append(got, kept)
		return true
	})
	return got, next, ok
}

// model holds a log and the records appended to it since it last began.
type model struct {
	log     *Log
	from    int64
	next    int64
	records []owned
}

// append appends up to 20 records with holes between their offsets.
func (m *model) append(random *rand.Rand, users int) {
	var list []owned
	for range random.IntN(20) {
		m.next += int64(random.IntN(3))
		r := owned{fmt.Sprint("user", random.IntN(users)), batch.Record{Offset: m.next, Time: time.UnixMilli(random.Int64N(1e12))}}
		r.Value = []byte(strings.Repeat("v", random.IntN(100)))
		switch random.IntN(5) {
		case 0:
			r.Value = nil
		case 1:
			r.Key = []byte("another key")
			r.Headers = []batch.Header{{Key: "a", Value: []byte("b")}, {Key: "empty", Value: []byte{}}, {Key: "null"}}
		case 2:
			r.user = ""
		default:
			r.Key = []byte(r.user)
		}
		list = append(list, r)
		m.next++
	}
	m.next += int64(random.IntN(2))
	appendTo(m.log, m.next, list...)
	m.records = append(m.records, list...)
}

// check reads a random range of a random user and compares it with the model. It reports whether the tail holds
// the range.
func (m *model) check(t *testing.T, random *rand.Rand, users int) bool {
	t.Helper()
	from := m.from + random.Int64N(m.next-m.from+1)
	if random.IntN(2) == 0 { // near the end
		from = max(m.from, m.next-random.Int64N(50))
	}
	to := from + random.Int64N(m.next-from+1)
	chosen := []string{fmt.Sprint("user", random.IntN(users))}
	if random.IntN(5) == 0 {
		chosen[0] = ""
	}
	for random.IntN(2) == 0 { // the same user may be there twice
		chosen = append(chosen, fmt.Sprint("user", random.IntN(users)))
	}
	got, next, ok := readAll(m.log, chosen, from, to)
	if held := m.log.From(); held > m.next || ok != (from >= held) {
		t.Fatalf("range %d to %d: read is %v, and the tail holds %d to %d", from, to, ok, held, m.next)
	}
	if !ok {
		return false
	}
	var want []batch.Record
	for _, r := range m.records {
		if slices.Contains(chosen, r.user) && r.Offset >= from && r.Offset < to {
			want = append(want, r.Record)
		}
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(batch.Record{})); diff != "" || next != to {
		t.Fatalf("users %q, %d to %d: ended at %d; records (-want +got):\n%s", chosen, from, to, next, diff)
	}
	return true
}

// TestReadReturnsTheUsersRecords appends random records to several logs and restarts some of them. It compares
// the records of random reads with the records appended.
func TestReadReturnsTheUsersRecords(t *testing.T) {
	for seed := range uint64(30) {
		random := rand.New(rand.NewPCG(seed, 1))
		tail := New(8<<10 + random.IntN(64<<10))
		if seed%4 == 0 {
			tail.mask = 1 // all entries are in two buckets
		}
		var logs []*model
		for range 1 + random.IntN(5) {
			next := random.Int64N(1000)
			logs = append(logs, &model{log: tail.Begin(next), from: next, next: next})
		}
		held, users := 0, 1+random.IntN(20)
		for range 500 {
			m := logs[random.IntN(len(logs))]
			switch random.IntN(50) {
			case 0:
				next := max(0, m.next+random.Int64N(100)-50)
				m.log.Restart(next)
				*m = model{log: m.log, from: next, next: next}
			default:
				m.append(random, users)
			}
			if m := logs[random.IntN(len(logs))]; m.check(t, random, users) {
				held++
			}
			if size := tail.Bytes(); size > tail.limit+8*len(tail.buckets) {
				t.Fatalf("the tail takes %d bytes", size)
			}
		}
		if held < 50 {
			t.Errorf("seed %d: the tail held %d of 500 ranges", seed, held)
		}
	}
}

// fill appends count records of 100 bytes from the offset at on. The users take turns. It returns the log's end.
func fill(l *Log, count, users int, at int64) (next int64) {
	var list []owned
	for i := range count {
		user := fmt.Sprint("user", i%users)
		list = append(list, owned{user, batch.Record{Offset: at + int64(i), Key: []byte(user), Value: make([]byte, 100)}})
	}
	appendTo(l, at+int64(count), list...)
	return at + int64(count)
}

// TestReadEndsWhereTheCallerEnds checks that Read returns the offset of the record that the caller refuses.
func TestReadEndsWhereTheCallerEnds(t *testing.T) {
	l := New(1 << 20).Begin(5)
	fill(l, 100, 10, 5)
	count := 0
	next, ok := l.Read([][]byte{[]byte("user3")}, 5, 105, func([]byte, *batch.Record) bool {
		count++
		return count < 4
	})
	if next != 38 || !ok || count != 4 {
		t.Errorf("read ended at %d, %v, after %d records, want 38 after 4", next, ok, count)
	}
}

// TestLogsShareTheMemoryByAge checks that a quiet log loses its older records because of a busy log, and that the
// quiet log still holds its newer records.
func TestLogsShareTheMemoryByAge(t *testing.T) {
	tail := New(1 << 20)
	quiet, busy := tail.Begin(0), tail.Begin(0)
	fill(quiet, 10, 1, 0)
	at := int64(0)
	for range 100 {
		at = fill(busy, 100, 10, at)
	}
	fill(quiet, 10, 1, 10)
	if from := busy.From(); from < 100 || from > at-1000 {
		t.Errorf("the busy log holds %d to %d", from, at)
	}
	if from := quiet.From(); from < 10 || from > 19 {
		t.Errorf("the quiet log begins at %d, want 10 to 19", from)
	}
	if got, _, ok := read(quiet, "user0", 19, 20); len(got) != 1 || !ok {
		t.Errorf("the quiet log has %d records at its end, %v, want 1", len(got), ok)
	}
}

// TestLogThatRestartsForgetsItsRecords checks the three cases in which live reading leaves out records, or
// continues at an offset that it has read before.
func TestLogThatRestartsForgetsItsRecords(t *testing.T) {
	for _, next := range []int64{150, 100, 50} {
		l := New(1 << 20).Begin(0)
		fill(l, 100, 1, 0)
		l.Restart(next)
		if _, _, ok := read(l, "user0", 40, 90); ok {
			t.Errorf("restarted at %d: the log still holds older records", next)
		}
		end := fill(l, 20, 1, next)
		if got, _, ok := read(l, "user0", next, end); len(got) != 20 || !ok {
			t.Errorf("restarted at %d: the log has %d new records, %v, want 20", next, len(got), ok)
		}
	}
	l := New(1 << 20).Begin(0)
	fill(l, 100, 1, 0)
	l.Restart(-1)
	if _, _, ok := read(l, "user0", 0, 0); ok {
		t.Error("a log of a partition that is not read any more holds a range")
	}
}

// TestLargeRecords checks a record larger than a segment, which is kept, and a record larger than the tail, after
// which the log begins.
func TestLargeRecords(t *testing.T) {
	l := New(8 << 20).Begin(0)
	large := owned{"user0", batch.Record{Offset: 0, Key: []byte("user0"), Value: make([]byte, 2*segmentSize)}}
	appendTo(l, 1, large)
	fill(l, 100, 1, 1)
	got, _, ok := read(l, "user0", 0, 101)
	if len(got) != 101 || len(got[0].Value) != 2*segmentSize || !ok {
		t.Errorf("the log has %d records, %v, want 101", len(got), ok)
	}
	large.Offset, large.Value = 101, make([]byte, 9<<20)
	appendTo(l, 102, large)
	if l.From() != 102 {
		t.Errorf("the log begins at %d after a record larger than the tail, want 102", l.From())
	}
	fill(l, 100, 1, 102)
	if got, _, ok := read(l, "user0", 102, 202); len(got) != 100 || !ok {
		t.Errorf("the log has %d records after the large one, %v, want 100", len(got), ok)
	}
}

// TestUserWithManyRecords checks that Read refuses a range with more records of the user than maxRead, and that
// such a user costs another user of the same bucket only a bounded number of steps.
func TestUserWithManyRecords(t *testing.T) {
	tail := New(64 << 20)
	tail.mask = 0
	l := tail.Begin(0)
	fill(l, 1, 1, 0)
	for i := range int64(maxSteps) {
		appendTo(l, i+2, owned{"busy", batch.Record{Offset: i + 1}})
	}
	if _, _, ok := read(l, "busy", maxSteps-maxRead, 1+maxSteps); ok {
		t.Error("a range with too many records is read")
	}
	if got, _, ok := read(l, "busy", maxSteps-maxRead+1, 1+maxSteps); len(got) != maxRead || !ok {
		t.Errorf("%d records are read, %v, want %d", len(got), ok, maxRead)
	}
	if _, _, ok := read(l, "user0", 0, 1+maxSteps); ok {
		t.Error("a user with too many newer entries in the same bucket is read")
	}
}

// TestTailWithoutMemory checks that a tail without room for a record holds only empty ranges.
func TestTailWithoutMemory(t *testing.T) {
	for _, limit := range []int{0, 1, 100, 2000} {
		tail := New(limit)
		l := tail.Begin(0)
		end := fill(l, 100, 1, 0)
		if _, _, ok := read(l, "user0", 0, end); ok || tail.Bytes() > limit {
			t.Errorf("limit %d: the tail takes %d bytes and holds the range: %v", limit, tail.Bytes(), ok)
		}
		if _, _, ok := read(l, "user0", end, end); !ok {
			t.Errorf("limit %d: the tail does not hold the empty range at its end", limit)
		}
	}
}

// TestReadWhileSegmentsAreDropped reads while other goroutines append records, for which the tail drops segments.
// The value of a record has the record's offset, so the test notices memory that is used again too early.
func TestReadWhileSegmentsAreDropped(t *testing.T) {
	tail := New(64 << 10)
	const users, rounds = 7, 1000
	var working sync.WaitGroup
	for range 2 {
		l := tail.Begin(0)
		var mu sync.Mutex
		end := int64(0)
		done := make(chan struct{})
		working.Go(func() {
			defer close(done)
			for at := int64(0); at < 10*rounds; at += 10 {
				var list []owned
				for i := at; i < at+10; i++ {
					value := binary.BigEndian.AppendUint64(make([]byte, 0, 40), uint64(i))
					list = append(list, owned{fmt.Sprint("user", i%users), batch.Record{Offset: i, Value: append(value, make([]byte, 32)...)}})
				}
				appendTo(l, at+10, list...)
				mu.Lock()
				end = at + 10
				mu.Unlock()
			}
		})
		for user := range int64(2) {
			working.Go(func() {
				for {
					select {
					case <-done:
						return
					default:
					}
					mu.Lock()
					to := end
					mu.Unlock()
					from := max(l.From(), to-200)
					last := int64(-1)
					_, _ = l.Read([][]byte{fmt.Append(nil, "user", user)}, from, to, func(_ []byte, r *batch.Record) bool {
						if at := int64(binary.BigEndian.Uint64(r.Value)); at != r.Offset || r.Offset%users != user || r.Offset <= last {
							t.Errorf("user %d got the record of offset %d at %d after %d", user, at, r.Offset, last)
						}
						last = r.Offset
						return true
					})
				}
			})
		}
	}
	working.Wait()
}

// TestBoundsAreForAllUsersTogether reads the records of several users, each of whom has fewer than Read serves.
func TestBoundsAreForAllUsersTogether(t *testing.T) {
	l := New(64 << 20).Begin(0)
	var list []owned
	for i := range int64(maxRead + 2) {
		list = append(list, owned{fmt.Sprint("user", i%2), batch.Record{Offset: i}})
	}
	appendTo(l, maxRead+2, list...)
	for _, test := range []struct {
		users    []string
		from, to int64
		want     int // -1: Read returns false
	}{
		{[]string{"user0"}, 0, maxRead + 2, maxRead/2 + 1},
		{[]string{"user0", "user1"}, 0, maxRead + 2, -1},
		{[]string{"user0", "user1"}, 2, maxRead + 2, maxRead},
		{[]string{"user1", "user0", "user2"}, 0, maxRead, maxRead},
		{nil, 0, maxRead + 2, 0},
	} {
		got, next, ok := readAll(l, test.users, test.from, test.to)
		if ok != (test.want >= 0) || ok && (len(got) != test.want || next != test.to) {
			t.Errorf("%q from %d to %d: %d records, next %d, %v; want %d", test.users, test.from, test.to, len(got), next, ok, test.want)
		}
		if !slices.IsSortedFunc(got, func(a, b batch.Record) int { return int(a.Offset - b.Offset) }) {
			t.Errorf("%q from %d: the records are not in the order of offsets", test.users, test.from)
		}
	}
}
