package consumer

import (
	"cmp"
	"container/list"
	"slices"
	"sync"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// chunkBytes is the size of a fetch for a replay, in bytes.
const chunkBytes = 1 << 20

// chunk is a part of a log as a broker returned it.
type chunk struct {
	logID
	from    int64 // the first offset of the chunk, or the offset that was asked for if that is lower
	next    int64 // the offset after the chunk
	batches []byte
	aborted []kmsg.FetchResponseTopicPartitionAbortedTransaction
}

// chunkCache keeps chunks in memory up to a number of bytes, because clients that were cut off together return one
// after another and want the same records. These records are older than the tail. The chunk that was not used for
// the longest time is dropped first.
type chunkCache struct {
	limit int

	mu     sync.Mutex
	bytes  int
	logs   map[logID][]*list.Element // elements of recent, whose values are *chunk, sorted by from
	recent *list.List                // the chunk used last is in front
}

func newChunkCache(limit int) *chunkCache {
	return &chunkCache{limit: limit, logs: make(map[logID][]*list.Element), recent: list.New()}
}

// findChunk returns the chunk that holds the offset; nil if none does.
func (c *chunkCache) findChunk(l logID, offset int64) *chunk {
	c.mu.Lock()
	defer c.mu.Unlock()
	kept := c.logs[l]
	i, exact := searchChunk(kept, offset)
	if !exact {
		i--
	}
	if i < 0 {
		return nil
	}
	found := kept[i].Value.(*chunk)
	if offset >= found.next {
		return nil
	}
	c.recent.MoveToFront(kept[i])
	return found
}

// searchChunk returns the index of the chunk that begins at the offset, or the index of the next chunk.
func searchChunk(kept []*list.Element, offset int64) (int, bool) {
	return slices.BinarySearchFunc(kept, offset, func(e *list.Element, offset int64) int {
		return cmp.Compare(e.Value.(*chunk).from, offset)
	})
}

// addChunk keeps a chunk. The caller may not change its bytes afterwards.
func (c *chunkCache) addChunk(k *chunk) {
	c.mu.Lock()
	defer c.mu.Unlock()
	kept := c.logs[k.logID]
	i, exact := searchChunk(kept, k.from)
	if exact || len(k.batches) > c.limit {
		return
	}
	c.logs[k.logID] = slices.Insert(kept, i, c.recent.PushFront(k))
	c.bytes += len(k.batches)
	for c.bytes > c.limit {
		c.dropLocked(c.recent.Back())
	}
}

// estimateMissing estimates the bytes of the log from the offset, which no chunk holds, to the next chunk. It
// returns at most chunkBytes. So a fetch does not read again records that are in memory.
func (c *chunkCache) estimateMissing(l logID, offset int64) int32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	kept := c.logs[l]
	i, _ := searchChunk(kept, offset)
	if i == len(kept) {
		return chunkBytes
	}
	after := kept[i].Value.(*chunk)
	each := float64(len(after.batches)) / float64(after.next-after.from)
	return int32(max(1, min(chunkBytes, each*float64(after.from-offset))))
}

// removeChunk drops a chunk, if the cache has it.
func (c *chunkCache) removeChunk(k *chunk) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.logs[k.logID] {
		if e.Value == k {
			c.dropLocked(e)
			return
		}
	}
}

func (c *chunkCache) dropLocked(e *list.Element) {
	k := c.recent.Remove(e).(*chunk)
	c.bytes -= len(k.batches)
	left := slices.DeleteFunc(c.logs[k.logID], func(o *list.Element) bool { return o == e })
	if len(left) == 0 {
		delete(c.logs, k.logID)
		return
	}
	c.logs[k.logID] = left
}
