package logtail

import (
	"bytes"
	"encoding/binary"
	"slices"
	"time"

	"herald/consumer/batch"
)

// entry is a record in a segment, followed by the rest of the segment:
//
//	previous     uint64  the address of the bucket's entry before this one
//	log          uint32  the number of the log
//	fingerprint  uint32  a part of the hash of log and user
//	offset       int64
//	size         uint32  of the user and the fields
//	time         int64   in milliseconds of Unix time
//	user         the length and the bytes of the user; only the length userIsKey if the user is the key
//	fields       key, value and headers, see [batch.AppendFields]
type entry []byte

const (
	logAt         = 8
	fingerprintAt = 12
	offsetAt      = 16
	sizeAt        = 24
	timeAt        = 28
	entryHeader   = 36
)

// userIsKey takes the place of the user's length if the user is the record's key.
const userIsKey = -1

// userLength returns the length that an entry has for the user: [userIsKey], or the number of bytes.
func userLength(user []byte, r *batch.Record) int {
	if r.Key != nil && bytes.Equal(user, r.Key) {
		return userIsKey
	}
	return len(user)
}

// entrySize returns how many bytes appendEntry appends.
func entrySize(userLength int, r *batch.Record) int {
	return entryHeader + batch.VarintSize(int64(userLength)) + max(userLength, 0) + batch.FieldsSize(r)
}

// appendEntry appends the entry of a record. userLength is the result of the function userLength.
func appendEntry(b []byte, previous address, log, fingerprint uint32, userLength int, user []byte, r *batch.Record) []byte {
	begin := len(b)
	b = slices.Grow(b, entryHeader)[:begin+entryHeader]
	header := b[begin:]
	binary.LittleEndian.PutUint64(header, uint64(previous))
	binary.LittleEndian.PutUint32(header[logAt:], log)
	binary.LittleEndian.PutUint32(header[fingerprintAt:], fingerprint)
	binary.LittleEndian.PutUint64(header[offsetAt:], uint64(r.Offset)) //nolint:gosec // the bits
	binary.LittleEndian.PutUint64(header[timeAt:], uint64(r.Time.UnixMilli()))
	b = binary.AppendVarint(b, int64(userLength))
	b = append(b, user[:max(userLength, 0)]...)
	b = batch.AppendFields(b, r)
	binary.LittleEndian.PutUint32(b[begin+sizeAt:], uint32(len(b)-begin-entryHeader)) //nolint:gosec // less than batch.MaxSize
	return b
}

func (e entry) previous() address   { return address(binary.LittleEndian.Uint64(e)) }
func (e entry) log() uint32         { return binary.LittleEndian.Uint32(e[logAt:]) }
func (e entry) fingerprint() uint32 { return binary.LittleEndian.Uint32(e[fingerprintAt:]) }
func (e entry) offset() int64       { return int64(binary.LittleEndian.Uint64(e[offsetAt:])) }

// decode fills r with the entry's record, and returns which of the users owns it. It returns false if the record is another
// user's.
func (e entry) decode(users [][]byte, d *batch.FieldsDecoder, r *batch.Record) (user []byte, ok bool) {
	size := int(binary.LittleEndian.Uint32(e[sizeAt:]))
	fields := e[entryHeader : entryHeader+size]
	length, n := binary.Varint(fields)
	fields = fields[n:]
	if length != userIsKey {
		if user, ok = findUser(users, fields[:length]); !ok {
			return nil, false
		}
		fields = fields[length:]
	}
	d.Decode(fields, r)
	r.Offset, r.Time = e.offset(), time.UnixMilli(int64(binary.LittleEndian.Uint64(e[timeAt:])))
	if length == userIsKey {
		return findUser(users, r.Key)
	}
	return user, true
}

// findUser returns the user of the name; false if it is not among the users.
func findUser(users [][]byte, name []byte) (user []byte, ok bool) {
	for _, user := range users {
		if bytes.Equal(user, name) {
			return user, true
		}
	}
	return nil, false
}
