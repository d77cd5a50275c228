{{- define "mqfleet.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* At most 50 characters: Kubernetes appends 11 for a label of the pods, which may have 63. */}}
{{- define "mqfleet.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else if contains (include "mqfleet.name" .) .Release.Name }}
{{- .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "mqfleet.name" .) | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* The fleet: the label "fleet" of its metrics, fleet.name and the prefix of its keys in Redis. */}}
{{- define "mqfleet.fleet" -}}
{{- default (printf "%s/%s" .Release.Namespace .Release.Name) .Values.fleet.name }}
{{- end }}

{{- define "mqfleet.selector" -}}
app.kubernetes.io/name: {{ include "mqfleet.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "mqfleet.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "mqfleet.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "mqfleet.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "mqfleet.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "mqfleet.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{/* Names of Secrets, the chart's or existing ones; empty: none. */}}
{{- define "mqfleet.redisSecret" -}}
{{- default (printf "%s-redis" (include "mqfleet.fullname" .)) .Values.redis.existingSecret }}
{{- end }}

{{- define "mqfleet.accessSecret" -}}
{{- if .Values.access.existingSecret }}
{{- .Values.access.existingSecret }}
{{- else if .Values.access.tokens }}
{{- printf "%s-access" (include "mqfleet.fullname" .) }}
{{- end }}
{{- end }}

{{- define "mqfleet.keysSecret" -}}
{{- if .Values.encryption.existingSecret }}
{{- .Values.encryption.existingSecret }}
{{- else if .Values.encryption.keys }}
{{- printf "%s-keys" (include "mqfleet.fullname" .) }}
{{- end }}
{{- end }}

{{- define "mqfleet.nodeAddress" -}}
{{- default (ternary "dns" "ip" (ne .Values.tls.existingSecret "")) .Values.nodeAddress }}
{{- end }}

{{/* Worker threads: as many as the request of CPU has cores, rounded up, and at least 2. */}}
{{- define "mqfleet.workers" -}}
{{- $cpu := dig "requests" "cpu" "1" .Values.resources | toString }}
{{- $cores := ternary (divf (trimSuffix "m" $cpu) 1000) (float64 $cpu) (hasSuffix "m" $cpu) }}
{{- max 2 ($cores | ceil | int) }}
{{- end }}

{{/* The settings of a node as YAML: what the chart sets, and above it the values of config. */}}
{{- define "mqfleet.settings" -}}
{{- $settings := dict
  "node_info" (dict "port" 8080 "size" (int64 .Values.size))
  "key_prefix" (default (printf "%s:" (include "mqfleet.fleet" .)) .Values.fleet.keyPrefix)
  "fleet" (dict "name" (include "mqfleet.fleet" .))
  "workers" (include "mqfleet.workers" . | int)
  "buffer_bytes" 134217728
  "http" (dict "listen" "0.0.0.0")
  "ops" (dict "listen" "0.0.0.0" "port" (int64 .Values.metrics.port))
  "stop_timeout_ms" 30000 }}
{{- if include "mqfleet.accessSecret" . }}
{{- $_ := set $settings.http "tokens_file" "/run/mqfleet/access/tokens" }}
{{- $_ := set $settings.fleet "secret_file" "/run/mqfleet/access/fleet-secret" }}
{{- else }}
{{- $_ := set $settings.http "insecure" true }}
{{- end }}
{{- if .Values.tls.existingSecret }}
{{- $_ := set $settings.http "tls_cert_file" "/run/mqfleet/tls/tls.crt" }}
{{- $_ := set $settings.http "tls_key_file" "/run/mqfleet/tls/tls.key" }}
{{- $_ := set $settings.fleet "ca_file" "/run/mqfleet/tls/ca.crt" }}
{{- end }}
{{- if include "mqfleet.keysSecret" . }}
{{- $_ := set $settings "secrets" (dict "key_file" "/run/mqfleet/keys/keys") }}
{{- end }}
{{- if .Values.redis.tls.existingSecret }}
{{- $redis := dict "tls_ca_file" "/run/mqfleet/redis-tls/ca.crt" }}
{{- if .Values.redis.tls.clientCertificate }}
{{- $_ := set $redis "tls_cert_file" "/run/mqfleet/redis-tls/tls.crt" }}
{{- $_ := set $redis "tls_key_file" "/run/mqfleet/redis-tls/tls.key" }}
{{- end }}
{{- $_ := set $settings "redis_config" $redis }}
{{- end }}
{{- toYaml (mustMergeOverwrite $settings (deepCopy .Values.config)) }}
{{- end }}

{{/* Faults that values.schema.json cannot express, or only with the secret in its message. */}}
{{- define "mqfleet.check" -}}
{{- if not (or .Values.redis.url .Values.redis.existingSecret) }}
{{- fail "redis.url or redis.existingSecret must be set: the Redis that all nodes share (docs/redis.md)" }}
{{- end }}
{{- if and .Values.redis.url .Values.redis.existingSecret }}
{{- fail "redis.url and redis.existingSecret: only one of them may be set" }}
{{- end }}
{{- if not (regexMatch "^(rediss?([+]sentinel)?://.+)?$" .Values.redis.url) }}
{{- fail "redis.url: must be redis://, rediss://, redis+sentinel:// or rediss+sentinel:// (docs/redis.md); an embedded Redis cannot be shared" }}
{{- end }}
{{- if not (regexMatch "^(.{16,256})?$" .Values.access.fleetSecret) }}
{{- fail "access.fleetSecret: must have 16 to 256 characters in one line" }}
{{- end }}
{{- if not (regexMatch "^(\\s*[^:\\s]+:[A-Za-z0-9+/]{43}=\\s*)*$" .Values.encryption.keys) }}
{{- fail "encryption.keys: must be lines of mqfleetd --new-key" }}
{{- end }}
{{- if and (include "mqfleet.accessSecret" .) .Values.access.insecure }}
{{- fail "access.insecure: must be false with access.existingSecret or access.tokens" }}
{{- end }}
{{- if not (or (include "mqfleet.accessSecret" .) .Values.access.insecure) }}
{{- fail "access.existingSecret must be set (or access.tokens and access.fleetSecret): a Secret with the keys \"tokens\" and \"fleet-secret\". access.insecure: true runs a fleet without tokens, where anyone who can reach a node has full access" }}
{{- end }}
{{- if and .Values.access.tokens (not .Values.access.existingSecret) (not .Values.access.fleetSecret) }}
{{- fail "access.fleetSecret must be set with access.tokens: 16 to 256 characters, the same for all nodes" }}
{{- end }}
{{- if and .Values.redis.tls.clientCertificate (not .Values.redis.tls.existingSecret) }}
{{- fail "redis.tls.clientCertificate: needs redis.tls.existingSecret with tls.crt and tls.key" }}
{{- end }}
{{- if contains "@" (dig "sink" "url" "" .Values.config | toString) }}
{{- fail "config.sink.url: its password would be in a ConfigMap; set MQFLEET_SINK_URL in extraEnv, from a Secret" }}
{{- end }}
{{- range $setting, $why := dict
  "node_info.name" "differs between pods, and is set by the chart"
  "node_info.host" "differs between pods, and is set by the chart (nodeAddress)"
  "redis_config.url" "set redis.url or redis.existingSecret, so that the password is in a Secret"
  "redis_config.host" "set redis.url or redis.existingSecret"
  "redis_config.password" "set redis.url or redis.existingSecret, so that it is in a Secret"
  "http.tls_cert_file" "set tls.existingSecret, so that the probes use HTTPS too"
  "fleet.name" "set the value fleet.name"
  "key_prefix" "set fleet.keyPrefix" }}
{{- $names := splitList "." $setting }}
{{- $of := ternary $.Values.config (dig (first $names) dict $.Values.config) (eq (len $names) 1) }}
{{- if hasKey $of (last $names) }}
{{- fail (printf "config.%s: %s" $setting $why) }}
{{- end }}
{{- end }}
{{- if eq 0 (int (dig "ops" "port" .Values.metrics.port .Values.config)) }}
{{- fail "config.ops.port: must not be 0: the probes use this port" }}
{{- end }}
{{- end }}
