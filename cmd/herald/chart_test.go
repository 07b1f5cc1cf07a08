package main

import (
	"encoding/json"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
)

// TestChartNamesFlags wants each setting that the Helm chart writes into the file of --config to be a flag of herald serve. The
// chart's schema must refuse each of them among the other settings, and both ways to serve without authentication.
func TestChartNamesFlags(t *testing.T) {
	var flags []string
	for _, node := range newParser(t.Context(), new(commands), new(configFile)).Model.Children {
		if node.Name == "serve" {
			for _, f := range node.Flags {
				flags = append(flags, f.Name)
			}
		}
	}
	chart := filepath.Join("deploy", "chart")
	var schema struct {
		Properties struct {
			Config struct {
				PropertyNames struct{ Not struct{ Enum []string } }
			}
		}
	}
	if err := json.Unmarshal([]byte(readDocument(t, filepath.Join(chart, "values.schema.json"))), &schema); err != nil {
		t.Fatal(err)
	}
	refused := schema.Properties.Config.PropertyNames.Not.Enum
	written := []string{"config", "replica", "listen", "admin-listen", "insecure-no-auth"}
	for _, set := range regexp.MustCompile(`set \$c "([^"]+)"`).FindAllStringSubmatch(readDocument(t, filepath.Join(chart, "templates", "_names.tpl")), -1) {
		written = append(written, set[1])
	}
	if len(written) < 20 {
		t.Errorf("the chart writes %q", written)
	}
	for _, name := range written {
		if !slices.Contains(flags, name) {
			t.Errorf("herald serve has no flag --%s", name)
		}
		if !slices.Contains(refused, name) {
			t.Errorf("the schema allows %s in config", name)
		}
	}
	for _, name := range refused {
		if !slices.Contains(written, name) {
			t.Errorf("the schema refuses %s, which the chart does not write", name)
		}
	}
}
