package batch

import "encoding/binary"

// controlTypeAbort is the type of the control record that ends an aborted transaction (KIP-98).
const controlTypeAbort = 0

// skipsBatch says whether the current batch holds nothing for a read_committed consumer: it is a control
// batch, or a batch of an aborted transaction.
//
// A broker lists the aborted transactions of an answer with producer and first offset (KIP-98). A
// transaction of the list is open from its first offset to the next abort marker of its producer.
func (r *Reader) skipsBatch(body []byte) bool {
	r.openTransactions()
	if r.base.attributes&attrControl != 0 {
		if controlType(body) == controlTypeAbort {
			delete(r.active, r.base.producer)
		}
		return true
	}
	if r.base.attributes&attrTransaction == 0 {
		return false
	}
	_, aborted := r.active[r.base.producer]
	return aborted
}

// openTransactions moves the aborted transactions that begin in the current batch, or before it, from
// the list to the set of open ones.
func (r *Reader) openTransactions() {
	for len(r.aborted) > 0 && r.aborted[0].FirstOffset <= r.base.last() {
		if r.active == nil {
			r.active = make(map[int64]struct{})
		}
		r.active[r.aborted[0].ProducerID] = struct{}{}
		r.aborted = r.aborted[1:]
	}
}

// controlType returns the type of a control batch's record, or -1 if the record cannot be read. A
// control batch holds one record, whose key is a version and a type (an int16 each), and is not
// compressed.
func controlType(body []byte) int16 {
	f := fields{data: body}
	f.readVarint() // length
	f.readBytes(1) // attributes
	f.readVarint() // timestamp delta
	f.readVarint() // offset delta
	key := f.readBytes(f.readVarint())
	if f.bad || len(key) < 4 {
		return -1
	}
	return int16(binary.BigEndian.Uint16(key[2:]))
}
