// Package format turns the values of records into text that a page can read.
//
// A [Format] belongs to a route. [New] returns one of three kinds: values whose schema a registry has (Avro, Protobuf and
// JSON Schema, in Confluent's wire format), JSON texts after a schema id, and CloudEvents. All formats of a server share
// one [Registry], which asks its [Source] for schemas and keeps them. Package herald/consumer/registry has the Source that
// speaks HTTP.
//
// # The way of a value
//
//  1. [Format].Ready finds the schema id by parseFrame, and the schema by registryFormat.findEntry. If the schema is
//     there, which takes tens of nanoseconds and no allocation (BenchmarkReady), the record can be decoded at any time later.
//  2. If not, Registry.ask starts a goroutine for the schema, unless one asks already. Registry.await repeats: it waits
//     for its turn (contact.waitForTurn), and loader.load asks for the schema and for the schemas that it refers to.
//     compileSafely makes an avroSchema, a protobufSchema or a jsonSchema of their texts.
//  3. Registry.setAnswer publishes the schema, or the reason why it cannot be used, and calls the wake functions.
//  4. [Format].Decode calls schema.decode. avroDecoder writes the JSON text from the bytes. Protobuf values become a
//     dynamicpb.Message, which protojson writes as text.
//
// # Answers of a registry
//
// [ErrNotFound] is doubted for 2 s, because a follower of the registry may lag, and then believed for a minute. A schema
// that cannot be used is asked for again after 10 minutes. Any other answer that is not a schema means that the registry is
// unreachable: the records wait, because a gap would lose them. Meanwhile one request a second tries whether the registry answers. A registry that fails for one schema alone
// delays other schemas by at most 1 s. A topic full of random ids gets a bounded number of requests, for its route alone
// (registryFormat.hasTooManyUnknown).
//
// # Bounds
//
// Every producer of a topic, and everybody who may register schemas, can send anything. A value of 1 MiB must not take
// gigabytes, and a stack that overflows ends the program: recover does not help.
//
//   - A value and its text have at most [MaxValue] bytes. The text of a binary value is at most 128 times as large as the value,
//     or 64 KiB: 512 records of 10 bytes took 10 GiB without this bound.
//   - Avro: avroDecoder writes at least one byte for each value that it reads, so the text bounds its work. Values are
//     nested at most 1,000 levels deep. Package avro parses the schemas, whose nesting it bounds. It does not decode the
//     values: 1 MiB of records of one byte took 350 MiB.
//   - Protobuf: protobufWeight estimates the memory of a value from its bytes, before it is decoded, and bounds its depth
//     to 100 levels. protobufSchema.checkAny does the same for parts of type Any, which are bytes until the text is
//     written. checkNesting bounds the nesting of a schema, for which the compiler takes 10 KiB a level.
//   - A schema has at most 1 MiB of text with its references, and 200 references. The registry's memory holds 10,000
//     schemas, or fewer if they take 256 MiB.
//   - Panics of the libraries become errors, such as for a schema that defines another google.protobuf.Timestamp.
//   - Names occur once in an object of JSON, and strings are UTF-8, or the value is not decoded.
//
// # Files
//
//	format.go            the kinds of formats, their interface, and the reasons for errors
//	frame.go             schema ids in values and headers
//	json.go              whether a value is one JSON text
//	confluent_json.go    JSON texts after a schema id
//	cloudevents.go       CloudEvents
//	registry_format.go   values by the schemas of a registry
//	registry.go          the schemas in memory
//	ask.go               how the registry is asked, and asked again
//	contact.go           whether the registry answers
//	load.go              a schema with the schemas that it refers to
//	avro.go              schemas of Avro
//	avro_decode.go       from Avro's binary encoding to its JSON encoding
//	protobuf.go          schemas and values of Protobuf
//	protobuf_builtin.go  files that schemas import and registries do not have
//	protobuf_nesting.go  how deep the text of a schema is nested
//	protobuf_weight.go   how much memory a value takes
//	metrics.go           the metrics of a registry
//	registrytest         a registry for tests, and values that other people's serializers made
package format
