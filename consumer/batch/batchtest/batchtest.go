// Package batchtest makes record batches for tests. It encodes them with kmsg, which shares no code with
// the reader that is tested.
package batchtest

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Bits of the attributes of a batch.
const (
	attrTransaction = 0x10
	attrControl     = 0x20
)

// AppendRecords encodes records as a batch holds them before it is compressed.
func AppendRecords(records []kmsg.Record) []byte {
	var out []byte
	for _, r := range records {
		r.Length = 0 // a varint of one byte
		r.Length = int32(len(r.AppendTo(nil)) - 1)
		out = r.AppendTo(out)
	}
	return out
}

// Make encodes a batch of the records. Records, LastOffsetDelta and NumRecords of rb follow from the
// records where they are zero.
func Make(rb kmsg.RecordBatch, records ...kmsg.Record) []byte {
	rb.Magic = 2
	rb.PartitionLeaderEpoch, rb.FirstSequence = -1, -1
	if rb.Records == nil {
		rb.Records = AppendRecords(records)
	}
	if len(records) > 0 {
		if rb.LastOffsetDelta == 0 {
			rb.LastOffsetDelta = records[len(records)-1].OffsetDelta
		}
		if rb.NumRecords == 0 {
			rb.NumRecords = int32(len(records))
		}
	}
	return Seal(rb.AppendTo(nil))
}

// Seal writes length and CRC of the batch raw, in place.
func Seal(raw []byte) []byte {
	binary.BigEndian.PutUint32(raw[8:], uint32(len(raw)-12))
	binary.BigEndian.PutUint32(raw[17:], crc32.Checksum(raw[21:], crc32.MakeTable(crc32.Castagnoli)))
	return raw
}

// Values returns records with the given values and consecutive offsets.
func Values(list ...string) []kmsg.Record {
	var records []kmsg.Record
	for i, v := range list {
		records = append(records, kmsg.Record{OffsetDelta: int32(i), Value: []byte(v)})
	}
	return records
}

// Simple makes a batch that is not compressed, with one record for each value.
func Simple(base int64, list ...string) []byte {
	return Make(kmsg.RecordBatch{FirstOffset: base}, Values(list...)...)
}

// Transaction makes a batch of a producer's transaction.
func Transaction(base, producer int64, list ...string) []byte {
	return Make(kmsg.RecordBatch{FirstOffset: base, ProducerID: producer, Attributes: attrTransaction}, Values(list...)...)
}

// Marker makes the control batch that ends a producer's transaction.
func Marker(base, producer int64, commit bool) []byte {
	key := []byte{0, 0, 0, 0} // version, type
	if commit {
		key[3] = 1
	}
	r := kmsg.Record{Key: key, Value: []byte{0, 0, 0, 0, 0, 1}} // version, coordinator epoch
	return Make(kmsg.RecordBatch{FirstOffset: base, ProducerID: producer, Attributes: attrTransaction | attrControl}, r)
}

// Old makes a message set of one message, of magic 0 or 1, with the offset.
func Old(magic int8, offset int64, value string) []byte {
	var raw []byte
	if magic == 0 {
		raw = (&kmsg.MessageV0{Offset: offset, Magic: magic, Value: []byte(value)}).AppendTo(nil)
	} else {
		raw = (&kmsg.MessageV1{Offset: offset, Magic: magic, Value: []byte(value)}).AppendTo(nil)
	}
	binary.BigEndian.PutUint32(raw[8:], uint32(len(raw)-12))
	binary.BigEndian.PutUint32(raw[12:], crc32.ChecksumIEEE(raw[16:]))
	return raw
}
