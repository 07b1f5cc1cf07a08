// Package registrytest has a schema registry for tests, and records that other people's serializers made.
//
// [Start] starts the registry, which answers with [Schemas]. Each of [Records] has the JSON that its format's own
// encoding makes of it. make.py made both, with confluent-kafka's serializers and the CNCF's CloudEvents SDK.
package registrytest

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"slices"

	"herald/consumer/batch"
)

// The kinds of records.
const (
	Avro        = "avro"
	Protobuf    = "protobuf"
	JSON        = "json"        // JSON Schema
	CloudEvents = "cloudevents" // needs no registry
)

// Schema is a version of a schema's subject.
type Schema struct {
	ID         int         `json:"id"`
	GUID       string      `json:"guid"`
	Subject    string      `json:"subject"`
	Version    int         `json:"version"`
	Type       string      `json:"schemaType"` // AVRO, PROTOBUF or JSON
	Text       string      `json:"schema"`
	References []Reference `json:"references,omitempty"`
}

// Reference is a schema that another one needs.
type Reference struct {
	Name    string `json:"name"`
	Subject string `json:"subject"`
	Version int    `json:"version"`
}

// Record is a record of a serializer.
type Record struct {
	Name    string // says what the value has
	Kind    string // Avro, Protobuf, JSON or CloudEvents
	Key     []byte
	Value   []byte
	Headers []batch.Header
	JSON    json.RawMessage // the value as JSON; nil: the value is Text
	Text    string
	Type    string // the CloudEvent's type
}

//go:embed registry.json
var made []byte

// Schemas returns all schemas. References come before the schemas that need them.
func Schemas() []Schema {
	var all struct{ Schemas []Schema }
	mustUnmarshal(&all)
	return all.Schemas
}

// Records returns the records of the kinds, all of them without kinds.
func Records(kinds ...string) []Record {
	var all struct {
		Records []struct {
			Name, Kind, Key, Text, Type string
			Value                       []byte
			Headers                     []batch.Header
			JSON                        json.RawMessage
		}
	}
	mustUnmarshal(&all)
	var records []Record
	for _, r := range all.Records {
		if len(kinds) == 0 || slices.Contains(kinds, r.Kind) {
			records = append(records, Record{
				Name: r.Name, Kind: r.Kind, Key: []byte(r.Key), Value: r.Value, Headers: r.Headers,
				JSON: r.JSON, Text: r.Text, Type: r.Type,
			})
		}
	}
	return records
}

func mustUnmarshal(all any) {
	if err := json.Unmarshal(made, all); err != nil {
		panic(fmt.Sprintf("registry.json: %v", err))
	}
}
