package registrytest_test

import (
	"encoding/json"
	"net/http"
	"testing"

	"herald/consumer/format/registrytest"
)

func TestRegistry(t *testing.T) {
	registry, url := registrytest.Start(t)
	get := func(path string, wantStatus int) (answer map[string]any) {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = response.Body.Close() }()
		if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
			t.Fatal(err)
		}
		if response.StatusCode != wantStatus {
			t.Fatalf("GET %s: status %d, want %d", path, response.StatusCode, wantStatus)
		}
		return answer
	}
	for _, s := range registrytest.Schemas() {
		if got := get("/schemas/guids/"+s.GUID, http.StatusOK); got["schema"] != s.Text {
			t.Errorf("schema of %s: %v", s.GUID, got["schema"])
		}
	}
	if got := get("/subjects/avro-evolving-value/versions/latest", http.StatusOK); got["version"] != 2.0 {
		t.Errorf("latest version: %v", got["version"])
	}
	get("/schemas/ids/1", http.StatusOK)
	registry.Remove(1)
	get("/schemas/ids/1", http.StatusNotFound)
	registry.Fail(http.StatusServiceUnavailable)
	get("/schemas/ids/2", http.StatusServiceUnavailable)
	registry.RequireUser("herald", "secret")
	get("/schemas/ids/2", http.StatusUnauthorized)
	registry.Answer(nil)
	get("/schemas/ids/2", http.StatusOK)
}

func TestRecords(t *testing.T) {
	for _, kind := range []string{registrytest.Avro, registrytest.Protobuf, registrytest.JSON, registrytest.CloudEvents} {
		records := registrytest.Records(kind)
		if len(records) == 0 {
			t.Errorf("no records of %s", kind)
		}
		for _, r := range records {
			if len(r.Value) == 0 || (r.JSON == nil) == (r.Text == "") {
				t.Errorf("%s: %s: no value, or not one of JSON and text", kind, r.Name)
			}
		}
	}
}
