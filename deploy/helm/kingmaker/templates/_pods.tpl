{{/* What all pods have in common: the Pod Security Standard `restricted`, and nothing of the cluster inside. */}}

{{/* The beginning of a pod's spec: (dict "root" $ "component" "gateway" "values" .Values.gateway "token" false) */}}
{{- define "kingmaker.pod" -}}
serviceAccountName: {{ include "kingmaker.fullname" .root }}-{{ .component }}
automountServiceAccountToken: {{ .token | default false }}
# a Service called kingmaker-gateway would set KINGMAKER_GATEWAY_PORT, which is a setting
enableServiceLinks: false
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
securityContext:
  {{- include "kingmaker.podSecurity" . | nindent 2 }}
topologySpreadConstraints:
  {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "kingmaker.selector" $ | nindent 8 }}
  {{- end }}
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "kingmaker.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "kingmaker.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{/* A pod's metadata. "annotations" are the chart's own beside those of the values. */}}
{{- define "kingmaker.podMetadata" -}}
labels:
  {{- include "kingmaker.podLabels" . | nindent 2 }}
{{- with merge (.annotations | default dict) .values.podAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Startup, readiness and liveness of our services, on the port that serves /health. */}}
{{- define "kingmaker.probes" -}}
startupProbe:
  httpGet: {path: /health/live, port: {{ . }}}
  periodSeconds: 1
  timeoutSeconds: 2
  failureThreshold: 60
readinessProbe:
  httpGet: {path: /health/ready, port: {{ . }}}
  periodSeconds: 2
  timeoutSeconds: 2
  failureThreshold: 2
# about the process alone and slow to act: a busy service that answers late must not be killed
livenessProbe:
  httpGet: {path: /health/live, port: {{ . }}}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
{{- end }}

{{/* One setting of a service: (list "KINGMAKER_GATEWAY_" "PORT" 8080). toJson, for Helm would write a million as 1e+06. */}}
{{- define "kingmaker.setting" -}}
- name: {{ index . 0 }}{{ index . 1 }}
  value: {{ index . 2 | toJson | trimAll "\"" | quote }}
{{- end }}

{{/* Settings all services take, and those of the values: (dict "root" $ "component" "gateway" "values" .Values.gateway) */}}
{{- define "kingmaker.settings" -}}
{{- $prefix := printf "KINGMAKER_%s_" (upper .component) -}}
{{ include "kingmaker.setting" (list $prefix "HOST" .root.Values.listenAddress) }}
{{ include "kingmaker.setting" (list $prefix "LOG_LEVEL" .root.Values.logLevel) }}
{{ include "kingmaker.setting" (list $prefix "REDIS_URL" (include "kingmaker.redisUrl" .root)) }}
{{- with include "kingmaker.redisUsername" . }}
{{ include "kingmaker.setting" (list $prefix "REDIS_USERNAME" .) }}
{{- end }}
{{- if include "kingmaker.redisSecret" .root }}
{{ include "kingmaker.setting" (list $prefix "REDIS_PASSWORD_FILE" "/etc/kingmaker/redis/password") }}
{{- end }}
{{- range $file := include "kingmaker.redisFiles" .root | fromJsonArray }}
{{- range $name, $key := $file.settings }}
{{ include "kingmaker.setting" (list $prefix $name (printf "/etc/kingmaker/%s/%s" $file.name $key)) }}
{{- end }}
{{- end }}
{{- if and (not .root.Values.redis.enabled) .root.Values.externalRedis.sentinelUsername }}
{{ include "kingmaker.setting" (list $prefix "REDIS_SENTINEL_USERNAME" .root.Values.externalRedis.sentinelUsername) }}
{{- end }}
{{- range $name, $value := .values.settings }}
{{ include "kingmaker.setting" (list $prefix $name $value) }}
{{- end }}
{{- end }}

{{- define "kingmaker.mounts" -}}
{{- if include "kingmaker.redisSecret" .root -}}
- name: redis-password
  mountPath: /etc/kingmaker/redis
  readOnly: true
{{- end }}
{{- range include "kingmaker.redisFiles" .root | fromJsonArray }}
- name: {{ .name }}
  mountPath: /etc/kingmaker/{{ .name }}
  readOnly: true
{{- end }}
{{- end }}

{{/* A service gets its own password and nobody else's. */}}
{{- define "kingmaker.volumes" -}}
{{- with include "kingmaker.redisSecret" .root -}}
- name: redis-password
  secret:
    secretName: {{ . }}
    items:
      - key: {{ $.component }}
        path: password
{{- end }}
{{- range include "kingmaker.redisFiles" .root | fromJsonArray }}
- name: {{ .name }}
  secret:
    secretName: {{ .secret }}
    items:
      {{- range values .settings | sortAlpha }}
      - key: {{ . }}
        path: {{ . }}
      {{- end }}
{{- end }}
{{- end }}
