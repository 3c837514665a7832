{{/* Names and labels. A component is called <fullname>-<component>; its pods are found by instance and component. */}}

{{- define "kingmaker.name" -}}
{{ .Values.nameOverride | default .Chart.Name | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "kingmaker.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{ .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains (include "kingmaker.name" .) .Release.Name -}}
{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name (include "kingmaker.name" .) | trunc 40 | trimSuffix "-" }}
{{- end -}}
{{- end }}

{{/* The head of an object: (dict "root" $ "component" "gateway"), with "suffix" for a second object of a kind. */}}
{{- define "kingmaker.metadata" -}}
name: {{ include "kingmaker.fullname" .root }}-{{ .component }}{{ .suffix }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "kingmaker.labels" . | nindent 2 }}
{{- end }}

{{- define "kingmaker.labels" -}}
{{ include "kingmaker.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: kingmaker
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "kingmaker.selector" -}}
app.kubernetes.io/name: {{ include "kingmaker.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* Labels of pods: nothing that changes with a version of the chart, which would start all of them anew. */}}
{{- define "kingmaker.podLabels" -}}
{{ include "kingmaker.selector" . }}
app.kubernetes.io/part-of: kingmaker
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Pods of model servers, as the controller labels them. One release a namespace, so no instance. */}}
{{- define "kingmaker.modelServerSelector" -}}
app.kubernetes.io/managed-by: kingmaker
app.kubernetes.io/component: model-server
{{- end }}

{{/* One of our images: (dict "root" $ "image" .Values.gateway.image) */}}
{{- define "kingmaker.image" -}}
{{- $name := .image.repository -}}
{{- if .root.Values.image.registry -}}{{- $name = printf "%s/%s" .root.Values.image.registry $name -}}{{- end -}}
{{- if .image.digest -}}
{{ $name }}@{{ .image.digest }}
{{- else -}}
{{ $name }}:{{ .image.tag | default .root.Values.image.tag | default .root.Chart.AppVersion }}
{{- end -}}
{{- end }}

{{/* Somebody else's image, named whole in its repository. */}}
{{- define "kingmaker.foreignImage" -}}
{{- if .image.digest -}}{{ .image.repository }}@{{ .image.digest }}{{- else -}}{{ .image.repository }}:{{ .image.tag }}{{- end -}}
{{- end }}
