package logtail

import (
	"fmt"
	"testing"

	"herald/consumer/batch"
)

// BenchmarkAppend appends records of 100 bytes, each to one of 100,000 users, to a tail that is full.
func BenchmarkAppend(b *testing.B) {
	l := New(36 << 20).Begin(0)
	users := make([][]byte, 100_000)
	for i := range users {
		users[i] = fmt.Append(nil, "user", i*7919%len(users))
	}
	list := make([]batch.Record, 512)
	value, next := make([]byte, 100), int64(0)
	appendMany := func(count int) {
		for ; count > 0; count -= len(list) {
			for i := range list {
				list[i] = batch.Record{Offset: next, Key: users[next%int64(len(users))], Value: value}
				next++
			}
			Append(l, next, list, func(r *batch.Record) ([]byte, *batch.Record) { return r.Key, r })
		}
	}
	appendMany(500_000)
	b.ReportAllocs()
	b.ResetTimer()
	appendMany(b.N)
}

// BenchmarkRead reads the 20 records that a user has among the last 2,000, 20,000 or 200,000 records of a log.
func BenchmarkRead(b *testing.B) {
	for _, others := range []int{100, 1000, 10_000} {
		b.Run(fmt.Sprint("others=", others), func(b *testing.B) {
			l := New(64 << 20).Begin(0)
			end := fill(l, 20*others, others, 0)
			user, count := make([]byte, 0, 20), 0
			for i := range b.N {
				user = fmt.Append(user[:0], "user", i*7919%others)
				_, _ = l.Read([][]byte{user}, 0, end, func([]byte, *batch.Record) bool {
					count++
					return true
				})
			}
			if count != 20*b.N {
				b.Errorf("%d records, want %d", count, 20*b.N)
			}
		})
	}
}
