package consumer

import (
	"errors"
	"hash/maphash"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"herald/consumer/batch"
	"herald/consumer/broker"
)

// A broker refuses a fetch by id once the topic was deleted and created again. A fetch by name continues in the new
// topic. So a partition that is fetched by name is in doubt after each event that deleting a topic causes: an error, a
// lost connection, another leader. The witness of a partition is the last record that live reading has read. While the
// partition is in doubt, live reading fetches the witness again, and delivers nothing until an answer contains it. If an
// answer has another record in its place, or if the log ends before it, the topic is another one. Several answers must
// say so (denialsOfAnother), because no checksum covers offsets.
//
// The witness is recognized by its content, which compaction, another codec and another division into batches leave as
// it is.

// errInDoubt says that a topic may have been deleted and created again. Live reading finds out.
var errInDoubt = errors.New("the topic may have been deleted and created again; live reading finds out")

const (
	// denialsOfAnother is how many answers in a row must be of another topic before the topic counts as created again.
	// Herald requests metadata between two of them.
	denialsOfAnother = 3

	// denialsUncertain takes the place of denialsOfAnother if the brokers report no epochs, and no broker has answered
	// that the partition does not exist. Such answers also come from a new leader of the same topic: for about half a
	// second it does not know how much of its log it may show.
	denialsUncertain = 8

	// denialsOverruled is how many answers in a row are of another topic before Herald believes metadata, which still has
	// the id of the topic, more than the witness.
	denialsOverruled = 8
)

// witness recognizes the last record that was read of a partition.
type witness struct {
	offset int64
	digest uint64 // of the time and of the fields as Kafka has them; 0: there is no witness
}

var witnessSeed = maphash.MakeSeed()

func newWitness(r *batch.Record) witness {
	var h maphash.Hash
	h.SetSeed(witnessSeed)
	maphash.WriteComparable(&h, r.Time.UnixMilli())
	_, _ = h.Write(batch.Fields(r)) // not the value, which may have been decoded
	return witness{r.Offset, h.Sum64() | 1}
}

// takeWitnessLocked makes the record the witness of the partition, if the partition is fetched by name and the record is
// the last one read.
func (p *livePartition) takeWitnessLocked(r *batch.Record) {
	if p.byName.Load() && (p.witness.digest == 0 || r.Offset > p.witness.offset) {
		p.witness = newWitness(r)
	}
}

// doubt makes live reading fetch the witness before it delivers further records, if it fetches by name.
func (p *livePartition) doubt() { p.doubts.Add(1) }

func (p *livePartition) isInDoubt() bool {
	return p.byName.Load() && p.settled.Load() != p.doubts.Load()
}

// settle notes that an answer has explained all events so far.
func (p *livePartition) settle() { p.settled.Store(p.doubts.Load()) }

// fetchOffset returns the offset to fetch next: the witness's, if the partition is in doubt.
func (p *livePartition) fetchOffset() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.isInDoubt() && p.witness.digest != 0 {
		return min(p.next, p.witness.offset)
	}
	return p.next
}

// lacksWitness reports whether any answer would end the doubt.
func (p *livePartition) lacksWitness() bool {
	if !p.isInDoubt() {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.witness.digest == 0
}

// verdict is what an answer says about the doubt.
type verdict int

const (
	verdictNone    verdict = iota // nothing: fetch again
	verdictSame                   // it is the topic that was read, or nothing shows another
	verdictAnother                // it is another topic
)

// hasEarlierEpochLocked reports whether a fetch named an earlier epoch than a fetch before, and the broker accepted it. The
// topic is another one, or the broker does not know the new leader yet.
func (p *livePartition) hasEarlierEpochLocked(asked fetchPoint) bool {
	return asked.epoch >= 0 && asked.epoch < p.epochSeen
}

// judgeLocked compares an answer without error with what was read before.
func (p *livePartition) judgeLocked(part *kmsg.FetchResponseTopicPartition, asked fetchPoint) verdict {
	earlier := p.hasEarlierEpochLocked(asked)
	switch {
	case earlier && p.witness.digest == 0:
		return verdictAnother
	case p.witness.digest == 0 && p.gone && part.LogStartOffset >= 0 && part.LogStartOffset < p.logStart:
		return verdictAnother
	case p.witness.digest == 0:
		return verdictSame
	case asked.offset > p.witness.offset:
		return verdictNone
	case len(part.RecordBatches) == 0 && part.HighWatermark <= p.witness.offset && !p.wasCutLocked(asked.epoch):
		return verdictAnother
	case len(part.RecordBatches) == 0: // a new leader may not know yet how much of its log it may show
		return verdictNone
	}
	var b batch.Reader
	var rec batch.Record
	b.Reset(part.RecordBatches, slices.Clone(part.AbortedTransactions), p.witness.offset)
	defer b.Close()
	found, err := b.Next(&rec)
	switch {
	case err == nil && found && newWitness(&rec) == p.witness:
		return verdictSame
	case earlier:
		return verdictAnother
	case err != nil || !found || rec.Offset != p.witness.offset: // damaged, or deleted
		return verdictSame
	case p.wasCutLocked(asked.epoch):
		return verdictSame
	}
	return verdictAnother
}

// wasCutLocked reports whether the partition has got a new leader, so that the log may have lost its end and have other
// records there (an unclean election). The epochs of a topic that was created again begin at 0.
func (p *livePartition) wasCutLocked(epoch int32) bool {
	return epoch > p.epochSeen && p.epochSeen >= 0 && !p.gone
}

// vouches reports whether the records of an answer are of the topic that was read before. If not, the partition is fetched
// again.
func (r *liveReader) vouches(p *livePartition, part *kmsg.FetchResponseTopicPartition, asked fetchPoint) bool {
	if !p.byName.Load() {
		return true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	earlier := p.hasEarlierEpochLocked(asked)
	if !p.isInDoubt() && !earlier {
		p.epochSeen = max(p.epochSeen, asked.epoch)
		return true
	}
	if earlier {
		p.doubt()
	}
	switch p.judgeLocked(part, asked) {
	case verdictAnother:
		r.denyLocked(p)
		return false
	case verdictNone:
		return false
	case verdictSame:
	}
	if earlier { // the witness is there: only this broker's metadata is old
		p.epochSeen = asked.epoch
	}
	p.settleLocked(asked.epoch)
	if asked.offset < p.next { // the witness has confirmed the offsets of the answer
		p.jump = jump{p.next, batch.BaseOffset(part.RecordBatches, p.next)}
	}
	return true
}

// settleLocked ends the doubt: nothing shows another topic.
func (p *livePartition) settleLocked(epoch int32) {
	p.settle()
	p.denials, p.gone = 0, false
	p.epochSeen = max(p.epochSeen, epoch)
}

// denyLocked notes that an answer is of another topic. The partition waits for new metadata. denyLocked
// returns false if metadata still has the topic's id after many such answers: then the topic is the same.
func (r *liveReader) denyLocked(p *livePartition) bool {
	if r.forsakeFollower(p) { // a follower may lack records that the leader has
		return true
	}
	p.denials++
	known := r.topics.knowsID(p.Topic)
	switch {
	case known && p.denials >= denialsOverruled:
		p.witness = witness{}
		p.settleLocked(-1)
		p.epochSeen = -1
		return false
	case !known && p.denials >= denialsUncertain, !known && p.denials >= denialsOfAnother && (p.gone || p.epochSeen >= 0):
		r.topics.recordRecreated(p.Topic, p.topicID)
	}
	p.doubt()
	r.park(p)
	return true
}

// checkTopic returns an error if a topic that is fetched by name may not be the one that live reading has read. end is
// where the log ends; endUnknown if that is not known.
func (r *liveReader) checkTopic(partition Partition, topicID [16]byte, end int64) error {
	p := r.livePartition(partition)
	if p == nil || p.topicID != topicID || !p.byName.Load() {
		return nil
	}
	if next, _ := p.position(); p.isInDoubt() || end != endUnknown && end < next {
		return errInDoubt
	}
	return nil
}

// isShorter reports whether metadata of the topic has no id and fewer partitions than live reading reads.
func (t *topicRegistry) isShorter(name string, m *broker.TopicMetadata, read int) bool {
	return m.Err == nil && m.ID == [16]byte{} && len(m.Leaders) > 0 && len(m.Leaders) < read && !t.knowsID(name)
}

// hasGonePartition reports whether a leader has answered that a partition of the topic does not exist. The partitions
// looked at have the numbers from up to, but not including, to.
func (r *liveReader) hasGonePartition(name string, from, to int) bool {
	for id := from; id < to; id++ {
		if p := r.livePartition(Partition{Topic: name, ID: int32(id)}); p != nil { //nolint:gosec // a number of partitions
			p.mu.Lock()
			gone := p.gone
			p.mu.Unlock()
			if gone {
				return true
			}
		}
	}
	return false
}

// countShorterLocked counts metadata with fewer partitions than are read, one of which a leader does not know either. It
// returns true once the topic counts as created again, after denialsUncertain such answers. Fewer may come from a broker
// that does not know yet of partitions that were added.
func (t *topicState) countShorterLocked() bool {
	t.shorter++
	t.recreated = t.recreated || t.shorter >= denialsUncertain
	return t.recreated
}

// recordRecreated notes that the topic with that id was deleted and created again. Metadata with Kafka's id of the topic
// takes precedence (identifyLocked).
func (t *topicRegistry) recordRecreated(name string, topicID [16]byte) {
	t.mu.Lock()
	if state := t.states[name]; state != nil && state.id == topicID {
		state.recreated = true
	}
	t.mu.Unlock()
}

// knowsID reports whether Kafka has reported the topic's id.
func (t *topicRegistry) knowsID(name string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	state := t.states[name]
	return state != nil && state.kafkaID != [16]byte{} && !state.idless
}
