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

{{- define "kingmaker.redisCaSecret" -}}
{{- if not .Values.redis.enabled -}}{{ .Values.externalRedis.caSecret }}{{- end -}}
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
{{- range $host := splitList "," (index (splitList "/" (index (splitList "://" $url) 1)) 0) -}}
{{- $port := regexFind ":[0-9]+$" $host | trimPrefix ":" | default "6379" -}}
{{- $ports = append $ports (int $port) -}}
{{- end -}}
{{- if hasPrefix "redis+sentinel://" $url -}}{{- $ports = append $ports 6379 -}}{{- end -}}
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
