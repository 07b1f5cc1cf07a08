// Package batch reads the records of Kafka's record batches.
//
// A broker answers a fetch with the bytes of its log: record batches of magic 2 (KIP-98), one after
// another. The first batch may begin before the offset that was asked for, and the last batch may be
// cut off. [Reader] turns such an answer into records as a read_committed consumer sees them.
//
// # The way of an answer
//
//  1. [Reader.Reset] takes the answer, its list of aborted transactions and the offset asked for.
//  2. [Reader.Next] fills a [Record]. When a batch is used up, nextBatch finds the next one,
//     parseHeader checks its length and its CRC, skipsBatch passes over control batches and aborted
//     transactions, decompress unpacks its records, and decodeRecord decodes them one by one.
//  3. [Reader.DropRecords] releases the records read so far.
//     [Reader.MustDropRecords] says when the caller has to do that before it calls Next again.
//  4. At the end, [Reader.NextOffset] is the offset to fetch next. After an error,
//     [Reader.NextReadable] is the offset to continue from.
//  5. [Reader.Close] gives the buffer for decompression back.
//
// # Memory
//
// A record's key, value and header values are parts of the answer or, in a compressed batch, of the
// buffer that all batches of the answer are decompressed into. Nothing is copied and nothing is
// allocated for a single record, because a replica reads the records of all users and passes most of
// them over. A batch that claims to decompress to more than [MaxSize] bytes, or to more than its codec
// can make of the compressed bytes, is corrupt; no memory is allocated for the claim.
//
// # Files
//
//	reader.go       the iterator over the records of an answer
//	header.go       the layout and the checks of a batch's header
//	transaction.go  control batches and aborted transactions
//	record.go       a record and how it is decoded
//	fields.go       how the fields of a record are encoded
//	codec.go        decompression within bounds
//	batchtest       batches for the tests of this package and of its users
//
// The package imports nothing else of Herald.
package batch
