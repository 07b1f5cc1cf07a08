#!/usr/bin/env bash
# Renders the Helm chart with each of its example values. It checks the manifests against the types of their kinds, and the file
# of settings with herald check. The schema must refuse values that no server could run with.
set -euo pipefail
cd "$(dirname "$0")"
chart=../chart
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
go build -o "$out/helm" helm.sh/helm/v3/cmd/helm
go build -o "$out/manifests" ./manifests
go -C ../.. build -o "$out/herald" ./cmd/herald
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 365 -subj /CN=herald -addext subjectAltName=DNS:herald \
	-keyout "$out/key" -out "$out/certificate" 2>/dev/null

# A helm that was built without its release scripts takes Kubernetes 1.20 for the cluster's version.
template() { "$out/helm" template herald "$chart" --kube-version 1.30.0 "$@"; }

# secrets makes each file below the directory of secrets that the settings name, with the mode that the chart gives it.
secrets() {
	rm -rf "$out/secrets"
	{ grep -o "$out/secrets/.*" "$out/herald.yaml" || true; } | while read -r file; do
		mkdir -p "$(dirname "$file")"
		case $file in
		*.crt) cp "$out/certificate" "$file" ;;
		*.key) cp "$out/key" "$file" ;;
		*.pem) openssl pkey -in "$out/key" -pubout -out "$file" ;;
		*) openssl rand -hex 32 >"$file" ;;
		esac
		chmod 440 "$file"
	done
}

for values in "$chart"/ci/*-values.yaml; do
	echo "== $(basename "$values")"
	"$out/helm" lint --strict --quiet --values "$values" "$chart"
	template --values "$values" >"$out/rendered.yaml"
	"$out/manifests" <"$out/rendered.yaml"
	template --values "$values" --show-only templates/config.yaml | sed -n '/herald.yaml: |/,$s/^    //p' |
		sed "s|/run/secrets/herald|$out/secrets|" >"$out/herald.yaml"
	secrets
	env -i HERALD_REPLICA=herald-0 HERALD_LISTEN=0.0.0.0:8080 HERALD_ADMIN_LISTEN=0.0.0.0:8081 \
		"$out/herald" check --config "$out/herald.yaml" >"$out/checked" || { cat "$out/checked"; exit 1; }
	echo "herald check: $(grep -c "$out/herald.yaml:" "$out/checked") settings"
done

minimal=$chart/ci/minimal-values.yaml
refuse() {
	if template --values "$minimal" "$@" >/dev/null 2>"$out/error"; then
		echo "the schema accepts $*" >&2
		exit 1
	elif ! grep -q 'values don.t meet the specifications of the schema' "$out/error"; then
		echo "$* fails, but not by the schema:" >&2
		cat "$out/error" >&2
		exit 1
	fi
	echo "refused: $*"
}
refuse --set auth.jwtSecret.existingSecret= # no authentication
refuse --set auth.jwksUrl=https://issuer.example/keys # two ways of authentication
refuse --set config.insecure-no-auth=true
refuse --set brokers=null
refuse --set 'brokers={kafka}'
refuse --set 'topics={}'
refuse --set image.repository=
refuse --set replica=3 # misspelt
refuse --set kafka.sasl.mechanism=plain
refuse --set kafka.tls.client.existingSecret=kafka-user # without kafka.tls.enabled
refuse --set httpRoute.enabled=true
refuse --set ingress.enabled=true
