// Manifests checks Kubernetes manifests from standard input against the types of their kinds. It refuses a field that the kind
// does not have, a value of another type, and a kind that it does not know. It is for the output of helm template.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	apps "k8s.io/api/apps/v1"
	autoscaling "k8s.io/api/autoscaling/v2"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// kinds are the kinds that a manifest may have.
var kinds = map[string]func() any{
	"v1/ConfigMap":                            func() any { return new(core.ConfigMap) },
	"v1/Service":                              func() any { return new(core.Service) },
	"v1/ServiceAccount":                       func() any { return new(core.ServiceAccount) },
	"apps/v1/StatefulSet":                     func() any { return new(apps.StatefulSet) },
	"policy/v1/PodDisruptionBudget":           func() any { return new(policy.PodDisruptionBudget) },
	"autoscaling/v2/HorizontalPodAutoscaler":  func() any { return new(autoscaling.HorizontalPodAutoscaler) },
	"networking.k8s.io/v1/NetworkPolicy":      func() any { return new(networking.NetworkPolicy) },
	"networking.k8s.io/v1/Ingress":            func() any { return new(networking.Ingress) },
	"gateway.networking.k8s.io/v1/HTTPRoute":  func() any { return new(httpRoute) },
	"monitoring.coreos.com/v1/ServiceMonitor": func() any { return new(serviceMonitor) },
	"monitoring.coreos.com/v1/PrometheusRule": func() any { return new(prometheusRule) },
}

// httpRoute has the fields of Gateway API's HTTPRoute that the chart uses (gateway-api 1.6, apis/v1).
type httpRoute struct {
	meta.TypeMeta   `json:",inline"`
	meta.ObjectMeta `json:"metadata"`
	Spec            struct {
		ParentRefs []struct{ Group, Kind, Namespace, Name, SectionName string } `json:"parentRefs"`
		Hostnames  []string                                                     `json:"hostnames"`
		Rules      []struct {
			Matches []struct {
				Path struct{ Type, Value string } `json:"path"`
			} `json:"matches"`
			Timeouts    struct{ Request, BackendRequest string } `json:"timeouts"`
			BackendRefs []struct {
				Name string `json:"name"`
				Port int32  `json:"port"`
			} `json:"backendRefs"`
		} `json:"rules"`
	} `json:"spec"`
}

// serviceMonitor has the fields of the Prometheus operator's ServiceMonitor that the chart uses (0.85, monitoring/v1).
type serviceMonitor struct {
	meta.TypeMeta   `json:",inline"`
	meta.ObjectMeta `json:"metadata"`
	Spec            struct {
		JobLabel  string                                  `json:"jobLabel"`
		Selector  meta.LabelSelector                      `json:"selector"`
		Endpoints []struct{ Port, Path, Interval string } `json:"endpoints"`
	} `json:"spec"`
}

// prometheusRule has the fields of the Prometheus operator's PrometheusRule that the chart uses (0.85, monitoring/v1).
type prometheusRule struct {
	meta.TypeMeta   `json:",inline"`
	meta.ObjectMeta `json:"metadata"`
	Spec            struct {
		Groups []struct {
			Name  string `json:"name"`
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			} `json:"rules"`
		} `json:"groups"`
	} `json:"spec"`
}

func main() {
	checked, err := check(os.Stdin)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(checked, "manifests have the fields of their kinds")
}

// check returns the number of manifests in the documents of r.
func check(r io.Reader) (checked int, err error) {
	text, err := io.ReadAll(r)
	if err != nil {
		return 0, err
	}
	for _, document := range bytes.Split(text, []byte("\n---\n")) {
		var head meta.TypeMeta
		if err := yaml.Unmarshal(document, &head); err != nil {
			return 0, fmt.Errorf("%w in:\n%s", err, document)
		}
		if head.Kind == "" {
			continue // comments
		}
		kind := kinds[head.APIVersion+"/"+head.Kind]
		if kind == nil {
			return 0, fmt.Errorf("unknown kind %s/%s", head.APIVersion, head.Kind)
		}
		if err := yaml.UnmarshalStrict(document, kind()); err != nil {
			return 0, fmt.Errorf("%s: %w in:\n%s", head.Kind, err, document)
		}
		checked++
	}
	if checked == 0 {
		return 0, errors.New("no manifest")
	}
	return checked, nil
}
