{{/* Ends of connections as NetworkPolicy peers, each a JSON list; an empty one means anywhere. */}}

{{- define "kingmaker.peer" -}}
{{- list (dict "podSelector" (dict "matchLabels" (include "kingmaker.selector" . | fromYaml))) | toJson -}}
{{- end }}

{{- define "kingmaker.peer.modelServers" -}}
{{- list (dict "podSelector" (dict "matchLabels" (include "kingmaker.modelServerSelector" . | fromYaml))) | toJson -}}
{{- end }}

{{/* One rule: (list "to" <peers as a list> <ports as a list>) */}}
{{- define "kingmaker.rule" -}}
{{- $direction := index . 0 -}}
{{- $peers := index . 1 -}}
- ports:
    {{- range index . 2 }}
    - {port: {{ . }}, protocol: TCP}
    {{- end }}
  {{- with $peers }}
  {{ $direction }}:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

{{/* Names are asked of the cluster's DNS. */}}
{{- define "kingmaker.rule.dns" -}}
- ports:
    - {port: 53, protocol: UDP}
    - {port: 53, protocol: TCP}
  {{- with .Values.networkPolicy.dns }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

{{- define "kingmaker.rule.toRedis" -}}
{{- if .Values.redis.enabled -}}
{{ include "kingmaker.rule" (list "to" (include "kingmaker.peer" (dict "root" . "component" "redis") | fromJsonArray) (list 6379)) }}
{{- else -}}
{{ include "kingmaker.rule" (list "to" .Values.externalRedis.peers (include "kingmaker.redisPorts" . | fromJsonArray)) }}
{{- end -}}
{{- end }}

{{- define "kingmaker.rule.toRegistry" -}}
{{- if .Values.mlflow.enabled -}}
{{ include "kingmaker.rule" (list "to" (include "kingmaker.peer" (dict "root" . "component" "mlflow") | fromJsonArray) (list 5000)) }}
{{- else -}}
{{ include "kingmaker.rule" (list "to" .Values.registry.peers (list (include "kingmaker.registryPort" .))) }}
{{- end -}}
{{- end }}

{{- define "kingmaker.rule.toModelServers" -}}
{{ include "kingmaker.rule" (list "to" (include "kingmaker.peer.modelServers" . | fromJsonArray) (list 8080)) }}
{{- end }}

{{/* Metrics: (dict "root" $ "port" 8081) */}}
{{- define "kingmaker.rule.fromPrometheus" -}}
{{ include "kingmaker.rule" (list "from" .root.Values.networkPolicy.prometheus (list .port)) }}
{{- end }}
