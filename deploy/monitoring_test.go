package deploy

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

// alertRule is a rule of monitoring/alerts.yml.
type alertRule struct {
	Alert       string            `yaml:"alert"`
	Expr        string            `yaml:"expr"`
	For         string            `yaml:"for"`
	Annotations map[string]string `yaml:"annotations"`
}

func readAlertRules(t *testing.T) (rules []alertRule) {
	t.Helper()
	var file struct {
		Groups []struct {
			Rules []alertRule `yaml:"rules"`
		} `yaml:"groups"`
	}
	text, err := os.ReadFile("monitoring/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	for _, g := range file.Groups {
		rules = append(rules, g.Rules...)
	}
	if len(rules) < 10 {
		t.Fatalf("only %d alert rules", len(rules))
	}
	return rules
}

// TestAlertRules checks the rules with Prometheus' own tool, which also evaluates them on series that must fire them
// and on series that must not.
func TestAlertRules(t *testing.T) {
	runTool(t, "promtool", "check", "config", "monitoring/prometheus.yml")
	runTool(t, "promtool", "test", "rules", "monitoring/alerts_test.yml")
	tests, err := os.ReadFile("monitoring/alerts_test.yml")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range readAlertRules(t) {
		for _, series := range []string{"bad", "good"} {
			if name := fmt.Sprintf("- name: %s, %s\n", r.Alert, series); !strings.Contains(string(tests), name) {
				t.Errorf("alerts_test.yml lacks %q", name)
			}
		}
	}
}

// links matches what a row of OPERATING.md has in addition to the text of an annotation: links, and marks of code.
var links = regexp.MustCompile("\\[([^\\]]*)\\]\\([^)]*\\)|`")

// TestOperatingListsEveryAlert compares the alert rules with the table of OPERATING.md.
func TestOperatingListsEveryAlert(t *testing.T) {
	document, err := os.ReadFile("OPERATING.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := make(map[string][]string) // the cells by the alert
	for line := range strings.Lines(string(document)) {
		if strings.HasPrefix(line, "| `Herald") {
			cells := strings.Split(strings.Trim(line, "| \n"), " | ")
			rows[strings.Trim(cells[0], "`")] = cells[1:]
		}
	}
	rules := readAlertRules(t)
	if len(rows) != len(rules) {
		t.Errorf("OPERATING.md has %d rows for %d rules", len(rows), len(rules))
	}
	for _, r := range rules {
		condition := "`" + r.Expr + "`"
		if r.For != "" {
			condition += " for " + r.For
		}
		if r.Annotations["description"] == "" {
			t.Errorf("%s does not say what to do", r.Alert)
		}
		cells := rows[r.Alert]
		if len(cells) != 2 || cells[0] != condition || links.ReplaceAllString(cells[1], "$1") != r.Annotations["summary"] {
			t.Errorf("OPERATING.md has %q for %s, want %s and %q", cells, r.Alert, condition, r.Annotations["summary"])
		}
	}
}

// panel is a panel of a dashboard of Grafana.
type panel struct {
	Type, Title, Description string
	FieldConfig              struct {
		Defaults struct{ Unit string }
	}
	Targets []struct{ Expr string }
}

// readPanels returns the panels of the dashboard, without rows.
func readPanels(t *testing.T) (panels []panel) {
	t.Helper()
	text, err := os.ReadFile("monitoring/grafana/herald.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct{ Panels []panel }
	if err := json.Unmarshal(text, &dashboard); err != nil {
		t.Fatal(err)
	}
	for _, p := range dashboard.Panels {
		if p.Type != "row" {
			panels = append(panels, p)
		}
	}
	if len(panels) < 20 {
		t.Fatalf("only %d panels", len(panels))
	}
	return panels
}

// fillVariables gives the variables of the dashboard values, as Grafana does.
func fillVariables(expr string) string {
	return strings.NewReplacer("$__rate_interval", "1m", "$job", ".+", "$instance", ".+").Replace(expr)
}

// TestDashboard checks each query of the dashboard with Prometheus' parser, as the query of a recording rule.
func TestDashboard(t *testing.T) {
	rules := "groups:\n  - name: panels\n    rules:\n"
	n := 0
	for _, p := range readPanels(t) {
		if p.Description == "" || p.FieldConfig.Defaults.Unit == "" || len(p.Targets) == 0 {
			t.Errorf("panel %q: want a description, a unit and a query", p.Title)
		}
		for _, target := range p.Targets {
			rules += fmt.Sprintf("      - {record: 'query:%d', expr: %q}\n", n, fillVariables(target.Expr))
			n++
		}
	}
	file := filepath.Join(t.TempDir(), "rules.yml")
	if err := os.WriteFile(file, []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	runTool(t, "promtool", "check", "rules", file)
}
