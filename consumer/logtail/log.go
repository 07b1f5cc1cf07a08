package logtail

import (
	"cmp"
	"slices"
	"sync"

	"herald/consumer/batch"
)

// maxRead is the most entries that [Log.Read] serves. A pass over Kafka's log, which many clients share, serves
// a client with more entries faster.
const maxRead = 4096

// maxSteps is the most entries of a bucket that [Log.Read] looks at. It bounds how long a user's read takes
// because of the other users in the bucket.
const maxSteps = 4 * maxRead

// Log is the part of one partition's log that a [Tail] holds. One goroutine at a time appends to it.
type Log struct {
	tail *Tail

	// The lock of the tail guards the fields below.
	number     uint32 // names the log in its entries; Restart changes it
	from, next int64  // the tail holds all records from the offset from to before next
	segment    uint64 // the number of the segment that has the log's last entry; 0: there is no entry
	slot       int    // the log's index in that segment's logs
}

// beginLocked makes the log empty at the offset next. The entries appended so far have the log's old number, so
// they no longer belong to it.
func (l *Log) beginLocked(next int64) {
	l.tail.lastLog++
	l.number, l.from, l.next, l.segment = l.tail.lastLog, next, next, 0
}

// Restart makes the log empty. It is called when live reading continues at the offset next because it leaves out
// the records before next, or because Kafka's log was cut. If live reading of the partition ends, next is
// negative: then [Log.Read] returns false for every range, even for an empty one.
func (l *Log) Restart(next int64) {
	l.tail.mu.Lock()
	defer l.tail.mu.Unlock()
	l.beginLocked(next)
}

// DropBefore drops the records before the offset, because Kafka has deleted them.
func (l *Log) DropBefore(offset int64) {
	l.tail.mu.Lock()
	defer l.tail.mu.Unlock()
	l.from = min(max(l.from, offset), l.next)
}

// Append appends the records up to the offset next. It copies them. The function owned returns a record and its
// user; a record for everyone has the empty user.
func Append[R any](l *Log, next int64, records []R, owned func(*R) (user []byte, r *batch.Record)) {
	l.tail.mu.Lock()
	defer l.tail.mu.Unlock()
	t := l.tail
	number := l.number
	t.hashes = t.hashes[:0]
	for i := range records {
		user, _ := owned(&records[i])
		t.hashes = append(t.hashes, t.hash(number, user))
	}
	t.loadBucketsLocked()
	for i := range records {
		user, r := owned(&records[i])
		hash := t.hashes[i]
		if l.number != number { // the log has begun again after a record that the tail cannot hold
			hash = t.hash(l.number, user)
		}
		l.appendLocked(hash, user, r)
	}
	l.next = next
}

// loadBucketsLocked loads the buckets of all hashes into the processor's cache. The processor loads them side by
// side; one after the other, between the copying of records, they are a fifth of the CPU of reading a record.
func (t *Tail) loadBucketsLocked() {
	if t.buckets == nil {
		return
	}
	for _, hash := range t.hashes {
		t.loaded ^= t.buckets[hash&t.mask]
	}
}

// appendLocked appends one record. If the tail cannot hold the record, the log begins after it.
func (l *Log) appendLocked(hash uint64, user []byte, r *batch.Record) {
	t := l.tail
	length := userLength(user, r)
	s, number := t.reserveLocked(entrySize(length, r))
	if s == nil {
		l.beginLocked(r.Offset + 1)
		return
	}
	bucket := &t.buckets[hash&t.mask]
	at := newAddress(number, len(s.data))
	s.data = appendEntry(s.data, *bucket, l.number, fingerprint(hash), length, user, r)
	*bucket = at
	if l.segment != number {
		l.segment, l.slot = number, len(s.logs)
		s.logs = append(s.logs, logEnd{log: l, number: l.number})
	}
	s.logs[l.slot].next = r.Offset + 1
}

// fingerprint returns the bits of a hash that do not choose the bucket.
func fingerprint(hash uint64) uint32 { return uint32(hash >> 32) }

// reading is the memory that a call of Read uses.
type reading struct {
	entries []entry
	decoder batch.FieldsDecoder
}

// readings holds the memory of ended calls of Read, for later calls.
var readings = sync.Pool{New: func() any { return new(reading) }}

// Read passes to fn each record of the users from the offset from to before the offset to, in the order of offsets, with
// the user who owns it. If fn returns false, Read ends. It returns the offset to continue from: to, or the offset of the record for which fn returned
// false. The record is valid until fn returns.
//
// Read returns false, without a call of fn, if the tail does not hold all records of the range, or if all users together
// have more than [maxRead] records in it. It also returns false if it would look at more than [maxSteps] entries for all
// of them.
func (l *Log) Read(users [][]byte, from, to int64, fn func(user []byte, r *batch.Record) bool) (next int64, ok bool) {
	r := readings.Get().(*reading) //nolint:forcetypeassert // nothing else is in there
	l.tail.readers.Add(1)
	defer func() {
		clear(r.entries) // they are parts of segments, as the record's headers are
		r.entries = r.entries[:0]
		r.decoder.Release()
		l.tail.readers.Add(-1)
		readings.Put(r)
	}()
	if !l.find(users, from, to, &r.entries) {
		return from, false
	}
	if len(users) > 1 {
		r.merge()
	}
	var rec batch.Record
	for _, e := range slices.Backward(r.entries) {
		if user, ok := e.decode(users, &r.decoder, &rec); ok && !fn(user, &rec) {
			return rec.Offset, true
		}
	}
	return to, true
}

// merge sorts the entries of several users in descending order of offsets. If users have the same hash, each of their
// entries was found once for each of these users: merge keeps one of them.
func (r *reading) merge() {
	slices.SortFunc(r.entries, func(a, b entry) int { return cmp.Compare(b.offset(), a.offset()) })
	r.entries = slices.CompactFunc(r.entries, func(a, b entry) bool { return a.offset() == b.offset() })
}

// find appends to list the entries of the range that have the hash of one of the users, user by user, in descending order
// of offsets. Entries of a user with the same hash may be among them. It returns false in the cases in which [Log.Read]
// does.
func (l *Log) find(users [][]byte, from, to int64, list *[]entry) bool {
	t := l.tail
	t.mu.RLock()
	defer t.mu.RUnlock()
	if from < l.from || to > l.next {
		return false
	}
	if t.buckets == nil { // no log has had a record yet
		return true
	}
	steps := maxSteps
	for _, user := range users {
		if !l.findUserLocked(user, from, to, &steps, list) {
			return false
		}
	}
	return true
}

// findUserLocked is find for one user. It subtracts from steps the entries that it looks at, and returns false at 0.
func (l *Log) findUserLocked(user []byte, from, to int64, steps *int, list *[]entry) bool {
	t := l.tail
	hash := t.hash(l.number, user)
	at := t.buckets[hash&t.mask]
	for ; *steps > 0; *steps-- {
		e := t.entryLocked(at)
		if e == nil {
			return true
		}
		if e.log() == l.number {
			if e.offset() < from {
				return true
			}
			if e.offset() < to && e.fingerprint() == fingerprint(hash) {
				if len(*list) == maxRead {
					return false
				}
				*list = append(*list, e)
			}
		}
		at = e.previous()
	}
	return false
}

// From returns the first offset of the records that the tail holds.
func (l *Log) From() int64 {
	l.tail.mu.RLock()
	defer l.tail.mu.RUnlock()
	return l.from
}
