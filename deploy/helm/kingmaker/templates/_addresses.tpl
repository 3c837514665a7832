{{/* Where Redis and the registry are, whether they are the chart's own or not. */}}

{{- define "kingmaker.redisUrl" -}}
{{- if .Values.redis.enabled -}}
redis://{{ include "kingmaker.fullname" . }}-redis:6379/0
{{- else -}}
{{ .Values.externalRedis.url }}
{{- end -}}
{{- end }}

{{/* The Secret with a password for each service; empty without passwords. */}}
{{- define "kingmaker.redisSecret" -}}
{{- if .Values.redis.enabled -}}
{{- if .Values.redis.acl.enabled -}}{{ .Values.redis.acl.existingSecret }}{{- end -}}
{{- else -}}
{{ .Values.externalRedis.passwordSecret }}
{{- end -}}
{{- end }}

{{/*
Files of Redis beside the password, as a list of (dict "name" "secret" "folder" "keys" "settings"): what is mounted where,
and which settings name it.
*/}}
{{- define "kingmaker.redisFiles" -}}
{{- $files := list -}}
{{- $external := .Values.externalRedis -}}
{{- if and (not .Values.redis.enabled) $external.caSecret -}}
{{- $files = append $files (dict "name" "redis-ca" "secret" $external.caSecret "settings" (dict "REDIS_CA_FILE" "ca.crt")) -}}
{{- end -}}
{{- if and (not .Values.redis.enabled) $external.clientCertificateSecret -}}
{{- $files = append $files (dict "name" "redis-certificate" "secret" $external.clientCertificateSecret "settings" (dict "REDIS_CERT_FILE" "tls.crt" "REDIS_KEY_FILE" "tls.key")) -}}
{{- end -}}
{{- if and (not .Values.redis.enabled) $external.sentinelPasswordSecret -}}
{{- $files = append $files (dict "name" "redis-sentinel" "secret" $external.sentinelPasswordSecret "settings" (dict "REDIS_SENTINEL_PASSWORD_FILE" "sentinel")) -}}
{{- end -}}
{{- $files | toJson -}}
{{- end }}

{{- define "kingmaker.redisUsername" -}}
{{- if .root.Values.redis.enabled -}}
{{- if .root.Values.redis.acl.enabled -}}{{ .component }}{{- end -}}
{{- else -}}
{{ get .root.Values.externalRedis.usernames .component }}
{{- end -}}
{{- end }}

{{/* Ports of an external Redis as the network policies open them, as JSON. */}}
{{- define "kingmaker.redisPorts" -}}
{{- $ports := .Values.externalRedis.ports -}}
{{- if not $ports -}}
{{- $url := .Values.externalRedis.url -}}
{{- $hasSentinels := contains "+sentinel://" $url -}}
{{- range $host := splitList "," (index (splitList "/" (index (splitList "://" $url) 1)) 0) -}}
{{- $port := regexFind ":[0-9]+$" $host | trimPrefix ":" | default (ternary "26379" "6379" $hasSentinels) -}}
{{- $ports = append $ports (int $port) -}}
{{- end -}}
{{- if $hasSentinels -}}{{- $ports = append $ports 6379 -}}{{- end -}}
{{- end -}}
{{- $ports | uniq | toJson -}}
{{- end }}

{{- define "kingmaker.registryUri" -}}
{{- if .Values.mlflow.enabled -}}
http://{{ include "kingmaker.fullname" . }}-mlflow.{{ .Release.Namespace }}.svc:5000
{{- else -}}
{{ .Values.registry.uri }}
{{- end -}}
{{- end }}

{{- define "kingmaker.registryPort" -}}
{{- $host := index (splitList "/" (index (splitList "://" .Values.registry.uri) 1)) 0 -}}
{{- $usual := ternary "443" "80" (hasPrefix "https://" .Values.registry.uri) -}}
{{- regexFind ":[0-9]+$" $host | trimPrefix ":" | default $usual -}}
{{- end }}
