package format_test

import (
	"encoding/json"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"herald/consumer/batch"
	"herald/consumer/format/registrytest"
)

// BenchmarkDecode decodes values of confluent-kafka's serializers, and compares with how long encoding/json takes to write
// the same text, and jsontext to check it.
func BenchmarkDecode(b *testing.B) {
	f, schemas := start(b)
	for _, kind := range []string{registrytest.Avro, registrytest.Protobuf, registrytest.JSON} {
		record := registrytest.Records(kind)[0]
		r := &batch.Record{Value: record.Value, Headers: record.Headers}
		awaitReady(b, schemas, f, r)
		d, err := f.Decode(r)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(kind+"/decode", func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(d.Value)))
			for b.Loop() {
				if _, err := f.Decode(r); err != nil {
					b.Fatal(err)
				}
			}
		})
		var value any
		if err := json.Unmarshal(d.Value, &value); err != nil {
			b.Fatal(err)
		}
		b.Run(kind+"/json.Marshal", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := json.Marshal(value); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(kind+"/check", func(b *testing.B) {
			for b.Loop() {
				if !jsontext.Value(d.Value).IsValid() {
					b.Fatal("not JSON")
				}
			}
		})
	}
}

// BenchmarkReady asks whether a record can be decoded, which each record of a topic costs.
func BenchmarkReady(b *testing.B) {
	f, schemas := start(b)
	r := &batch.Record{Value: registrytest.Records(registrytest.Avro)[0].Value}
	awaitReady(b, schemas, f, r)
	b.ReportAllocs()
	for b.Loop() {
		if !f.Ready(r, nil) {
			b.Fatal("not ready")
		}
	}
}
