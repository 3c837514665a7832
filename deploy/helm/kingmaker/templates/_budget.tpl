{{/* A PodDisruptionBudget of a component, unless its values switch it off. */}}
{{- define "kingmaker.disruptionBudget" -}}
{{- if .values.podDisruptionBudget.enabled }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  {{- include "kingmaker.metadata" . | nindent 2 }}
spec:
  # not minAvailable: that would let nobody drain a node with the only pod on it
  maxUnavailable: {{ .values.podDisruptionBudget.maxUnavailable }}
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "kingmaker.selector" . | nindent 6 }}
{{- end }}
{{- end }}
