package deploy

import (
	"bytes"
	"os"
	"testing"
)

// TestChartHasAlertRules wants the chart's copy of the alert rules to equal the rules. A chart contains no file from outside of its
// directory.
func TestChartHasAlertRules(t *testing.T) {
	rules, err := os.ReadFile("monitoring/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	inChart, err := os.ReadFile("chart/files/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(rules, inChart) {
		t.Error("the files differ: cp deploy/monitoring/alerts.yml deploy/chart/files/")
	}
}
