{{- define "herald.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "herald.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "herald.labels" -}}
{{ include "herald.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- /* The file of --config. */ -}}
{{- define "herald.config" -}}
{{- $c := deepCopy .Values.config }}
{{- $_ := set $c "brokers" .Values.brokers }}
{{- $_ := set $c "topic" .Values.topics }}
{{- $_ := set $c "group" .Values.group }}
{{- $_ := set $c "drain-timeout" (printf "%ds" (int .Values.stop.drainTimeoutSeconds)) }}
{{- with .Values.auth }}
{{- $files := list }}
{{- range .jwtSecret.keys }}{{ $files = append $files (printf "/run/secrets/herald/jwt-secret/%s" .) }}{{ end }}
{{- if .jwtSecret.existingSecret }}{{ $_ := set $c "jwt-secret-file" $files }}{{ end }}
{{- $files = list }}
{{- range .jwtPublicKey.keys }}{{ $files = append $files (printf "/run/secrets/herald/jwt-public-key/%s" .) }}{{ end }}
{{- if .jwtPublicKey.existingSecret }}{{ $_ := set $c "jwt-public-key-file" $files }}{{ end }}
{{- if .jwksUrl }}{{ $_ := set $c "jwks-url" .jwksUrl }}{{ end }}
{{- if .issuer }}{{ $_ := set $c "jwt-issuer" .issuer }}{{ end }}
{{- if .audience }}{{ $_ := set $c "jwt-audience" .audience }}{{ end }}
{{- end }}
{{- if .Values.tls.existingSecret }}
{{- $_ := set $c "tls-cert-file" "/run/secrets/herald/tls/tls.crt" }}
{{- $_ := set $c "tls-key-file" "/run/secrets/herald/tls/tls.key" }}
{{- end }}
{{- with .Values.kafka.tls }}
{{- if .enabled }}{{ $_ := set $c "kafka-tls" true }}{{ end }}
{{- if .ca.existingSecret }}{{ $_ := set $c "kafka-ca-file" (printf "/run/secrets/herald/kafka-ca/%s" .ca.key) }}{{ end }}
{{- if .client.existingSecret }}
{{- $_ := set $c "kafka-cert-file" (printf "/run/secrets/herald/kafka-client/%s" .client.certificateKey) }}
{{- $_ := set $c "kafka-key-file" (printf "/run/secrets/herald/kafka-client/%s" .client.privateKeyKey) }}
{{- end }}
{{- end }}
{{- with .Values.kafka.sasl }}
{{- if .mechanism }}
{{- $_ := set $c "kafka-sasl-mechanism" .mechanism }}
{{- if .user }}
{{- $_ := set $c "kafka-sasl-user" .user }}
{{- $_ := set $c "kafka-sasl-password-file" (printf "/run/secrets/herald/kafka-sasl/%s" .key) }}
{{- end }}
{{- end }}
{{- end }}
{{- toYaml $c }}
{{- end }}

{{- /* The Secrets that are mounted: their directory below /run/secrets/herald, and their name. */ -}}
{{- define "herald.secrets" -}}
{{- with .Values.auth.jwtSecret.existingSecret }}
jwt-secret: {{ . | quote }}
{{- end }}
{{- with .Values.auth.jwtPublicKey.existingSecret }}
jwt-public-key: {{ . | quote }}
{{- end }}
{{- with .Values.tls.existingSecret }}
tls: {{ . | quote }}
{{- end }}
{{- with .Values.kafka.tls.ca.existingSecret }}
kafka-ca: {{ . | quote }}
{{- end }}
{{- with .Values.kafka.tls.client.existingSecret }}
kafka-client: {{ . | quote }}
{{- end }}
{{- with .Values.kafka.sasl.existingSecret }}
kafka-sasl: {{ . | quote }}
{{- end }}
{{- end }}

{{- /* Nine tenths of the limit of memory, if it is in Mi or Gi. */ -}}
{{- define "herald.gomemlimit" -}}
{{- $limit := dig "limits" "memory" "" .Values.resources | toString }}
{{- if regexMatch "^[0-9]+[MG]i$" $limit }}
{{- $mib := mul (ternary 1024 1 (hasSuffix "Gi" $limit)) (regexFind "[0-9]+" $limit) }}
{{- div (mul $mib 9) 10 }}MiB
{{- end }}
{{- end }}

{{- /* The first characters of the paths of all public routes. */ -}}
{{- define "herald.path" -}}
{{ get .Values.config "base-path" | default "/" }}
{{- end }}
