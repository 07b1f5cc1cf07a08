package format

import "herald/consumer/batch"

// confluentJSON decodes values of Confluent's JSON Schema serializers without a registry: it removes the schema id.
type confluentJSON struct{}

func (confluentJSON) Ready(*batch.Record, func()) bool { return true }

func (confluentJSON) Decode(r *batch.Record) (Decoded, error) {
	f, err := parseFrame(r)
	if err != nil {
		return Decoded{}, err
	}
	text, err := checkJSON(f.payload)
	if err != nil {
		return Decoded{}, refuseJSON(f.schema.String(), err)
	}
	return Decoded{Value: text}, nil
}
