{{/*
Combinations that cannot work, each with a sentence that says what to set. All that are found are told at once. What one
value alone may be stands in values.schema.json.
*/}}
{{- define "kingmaker.check" -}}
{{- $v := .Values -}}
{{- $found := concat
  (include "kingmaker.check.labels" $v | fromJsonArray)
  (include "kingmaker.check.redis" $v | fromJsonArray)
  (include "kingmaker.check.registry" $v | fromJsonArray)
  (include "kingmaker.check.gateway" $v | fromJsonArray)
  (include "kingmaker.check.waysIn" . | fromJsonArray)
-}}
{{- if $found -}}
{{- fail (printf "\n\n%s\n" (join "\n" $found)) -}}
{{- end -}}
{{- end }}

{{- define "kingmaker.check.labels" -}}
{{- $found := list -}}
{{- range $label := list "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/component" "app.kubernetes.io/part-of" "app.kubernetes.io/managed-by" "app.kubernetes.io/version" "helm.sh/chart" -}}
{{- if hasKey $.commonLabels $label -}}
{{- $found = append $found (printf "commonLabels has %s, which the chart sets itself. Take another label." $label) -}}
{{- end -}}
{{- end -}}
{{- $found | toJson -}}
{{- end }}

{{- define "kingmaker.check.redis" -}}
{{- $found := list -}}
{{- $external := .externalRedis -}}
{{- if and .redis.enabled $external.url -}}
{{- $found = append $found "redis.enabled is true and externalRedis.url is set: there can be one Redis. Set redis.enabled=false, or leave externalRedis.url empty." -}}
{{- else if not (or .redis.enabled $external.url) -}}
{{- $found = append $found "there is no Redis: set redis.enabled=true, or externalRedis.url to the address of yours." -}}
{{- end -}}
{{- if .redis.enabled -}}
{{- range $name := list "passwordSecret" "caSecret" "clientCertificateSecret" "sentinelPasswordSecret" "sentinelUsername" -}}
{{- if get $external $name -}}
{{- $found = append $found (printf "externalRedis.%s means nothing while redis.enabled is true. Set redis.enabled=false and externalRedis.url, or leave it empty." $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if contains "@" $external.url -}}
{{- $found = append $found "externalRedis.url carries a user or password, which everybody who may read Deployments would see. Set externalRedis.usernames and externalRedis.passwordSecret instead." -}}
{{- end -}}
{{- range $service, $user := $external.usernames -}}
{{- if and $user (not $external.passwordSecret) -}}
{{- $found = append $found (printf "externalRedis.usernames.%s is set without a password: set externalRedis.passwordSecret to a Secret with the keys gateway, monitor and controller." $service) -}}
{{- end -}}
{{- end -}}
{{- range $name := list "caSecret" "clientCertificateSecret" -}}
{{- if and $external.url (get $external $name) (not (hasPrefix "rediss" $external.url)) -}}
{{- $found = append $found (printf "externalRedis.%s means nothing without TLS: begin externalRedis.url with rediss, or leave it empty." $name) -}}
{{- end -}}
{{- end -}}
{{- range $name := list "sentinelPasswordSecret" "sentinelUsername" -}}
{{- if and $external.url (get $external $name) (not (contains "+sentinel://" $external.url)) -}}
{{- $found = append $found (printf "externalRedis.%s means nothing without Sentinels: begin externalRedis.url with redis+sentinel://, or leave it empty." $name) -}}
{{- end -}}
{{- end -}}
{{- if and $external.sentinelUsername (not $external.sentinelPasswordSecret) -}}
{{- $found = append $found "externalRedis.sentinelUsername is set without a password: set externalRedis.sentinelPasswordSecret to a Secret with the key sentinel." -}}
{{- end -}}
{{- $limit := dig "limits" "memory" "" .redis.resources -}}
{{- if and .redis.enabled $limit -}}
{{- if gt (mulf 1.25 (include "kingmaker.bytes" .redis.maxMemory | float64)) (include "kingmaker.bytes" $limit | float64) -}}
{{- $found = append $found (printf "redis.maxMemory is %s and redis.resources.limits.memory is %v: Redis would be killed before it refuses a write. Leave it a fifth of the limit at least." .redis.maxMemory $limit) -}}
{{- end -}}
{{- end -}}
{{- $stream := dig "RECORDER__MAX_STREAM_BYTES" 268435456 .gateway.settings | int64 -}}
{{- if and .redis.enabled (gt (mulf 1.25 $stream) (include "kingmaker.bytes" .redis.maxMemory | float64)) -}}
{{- $found = append $found (printf "redis.maxMemory is %s and one model's events may take %v bytes: a full Redis refuses every write, changes of routing too. Set gateway.settings.RECORDER__MAX_STREAM_BYTES to four fifths of redis.maxMemory at most." .redis.maxMemory $stream) -}}
{{- end -}}
{{- if and .redis.acl.enabled (not .redis.enabled) -}}
{{- $found = append $found "redis.acl is for the chart's own Redis: set redis.enabled=true, or make the users yourself and set externalRedis.usernames and externalRedis.passwordSecret." -}}
{{- else if and .redis.acl.enabled (not .redis.acl.existingSecret) -}}
{{- $found = append $found "redis.acl.enabled is true without passwords: set redis.acl.existingSecret to a Secret with the keys gateway, monitor and controller." -}}
{{- else if and .redis.acl.existingSecret (not .redis.acl.enabled) -}}
{{- $found = append $found "redis.acl.existingSecret means nothing while redis.acl.enabled is false: set redis.acl.enabled=true, or leave it empty." -}}
{{- end -}}
{{- $found | toJson -}}
{{- end }}

{{/* An amount of memory as a number, in the words of Redis (512mb) or Kubernetes (512Mi, 1G). */}}
{{- define "kingmaker.bytes" -}}
{{- $units := dict "kb" 1024 "mb" 1048576 "gb" 1073741824 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 "k" 1000 "M" 1000000 "G" 1000000000 "T" 1000000000000 -}}
{{- $text := toString . -}}
{{- $unit := regexFind "[A-Za-z]*$" $text -}}
{{- mulf (trimSuffix $unit $text | float64) (get $units $unit | default 1 | float64) | int64 -}}
{{- end }}

{{- define "kingmaker.check.registry" -}}
{{- $found := list -}}
{{- if and .mlflow.enabled .registry.uri -}}
{{- $found = append $found "mlflow.enabled is true and registry.uri is set: there can be one registry. Set mlflow.enabled=false, or leave registry.uri empty." -}}
{{- else if not (or .mlflow.enabled .registry.uri) -}}
{{- $found = append $found (printf "there is no registry to fetch %s from: set mlflow.enabled=true, or registry.uri to the address of your MLflow." (ternary "models" (keys .models | sortAlpha | join ", ") (empty .models))) -}}
{{- end -}}
{{- if and .mlflow.enabled .registry.credentialsSecret -}}
{{- $found = append $found "registry.credentialsSecret means nothing while mlflow.enabled is true: the chart's MLflow asks for no credentials. Set mlflow.enabled=false and registry.uri, or leave it empty." -}}
{{- end -}}
{{- $found | toJson -}}
{{- end }}

{{- define "kingmaker.check.gateway" -}}
{{- $found := list -}}
{{- $gateway := .gateway -}}
{{- $scaling := $gateway.autoscaling -}}
{{- $fewest := $gateway.replicas | default 2 -}}
{{- if $scaling.enabled -}}
{{- $fewest = $scaling.minReplicas -}}
{{- if $gateway.replicas -}}
{{- $found = append $found (printf "gateway.replicas is %v and gateway.autoscaling.enabled is true: the autoscaler sets the number. Leave gateway.replicas out and set gateway.autoscaling.minReplicas." $gateway.replicas) -}}
{{- end -}}
{{- if gt (int $scaling.minReplicas) (int $scaling.maxReplicas) -}}
{{- $found = append $found (printf "gateway.autoscaling.minReplicas is %v, more than maxReplicas, which is %v. Set maxReplicas to at least as many." $scaling.minReplicas $scaling.maxReplicas) -}}
{{- end -}}
{{- if not (dig "requests" "cpu" "" $gateway.resources) -}}
{{- $found = append $found "gateway.autoscaling counts CPU in percent of the request, and there is none: set gateway.resources.requests.cpu." -}}
{{- end -}}
{{- end -}}
{{- if $scaling.targetInFlight -}}
{{- if not $scaling.enabled -}}
{{- $found = append $found "gateway.autoscaling.targetInFlight means nothing while gateway.autoscaling.enabled is false: set gateway.autoscaling.enabled=true." -}}
{{- else if not .monitoring.metricsAdapter -}}
{{- $found = append $found "gateway.autoscaling.targetInFlight needs a metrics adapter that serves kingmaker_gateway_in_flight of pods: install one and set monitoring.metricsAdapter=true, or set targetInFlight=0." -}}
{{- end -}}
{{- end -}}
{{- $budget := $gateway.podDisruptionBudget -}}
{{- if and $budget.enabled (gt (int $fewest) 1) (ge (int $budget.maxUnavailable) (int $fewest)) -}}
{{- $found = append $found (printf "gateway.podDisruptionBudget.maxUnavailable is %v and there may be only %v gateways: a drain could take them all. Set it lower." $budget.maxUnavailable $fewest) -}}
{{- end -}}
{{- range $name, $spec := .models -}}
{{- $deadline := dig "limits" "deadlineMilliseconds" 1000 $spec | int -}}
{{- if gt $deadline (mul 1000 $gateway.drainSeconds | int) -}}
{{- $found = append $found (printf "models.%s.limits.deadlineMilliseconds is %v and gateway.drainSeconds is %v: a gateway that leaves would cut requests off. Set gateway.drainSeconds to at least %v." $name $deadline $gateway.drainSeconds (div (add $deadline 999) 1000)) -}}
{{- end -}}
{{- end -}}
{{- $partition := dig "PARTITION" 0 $gateway.settings | int -}}
{{- $read := dig "PARTITIONS" 1 .monitor.settings | int -}}
{{- if ge $partition $read -}}
{{- $found = append $found (printf "gateway.settings.PARTITION is %v and the monitor reads %v partitions, counted from 0: set monitor.settings.PARTITIONS to at least %v." $partition $read (add $partition 1)) -}}
{{- end -}}
{{- if and .helmTest.body (not .helmTest.model) -}}
{{- $found = append $found "helmTest.body is a request of one model: set helmTest.model too." -}}
{{- end -}}
{{- $found | toJson -}}
{{- end }}

{{- define "kingmaker.check.waysIn" -}}
{{- $found := list -}}
{{- $route := .Values.httpRoute -}}
{{- if and $route.enabled (not (.Capabilities.APIVersions.Has "gateway.networking.k8s.io/v1/HTTPRoute")) -}}
{{- $found = append $found "httpRoute.enabled is true, and this cluster does not know HTTPRoutes: install the Gateway API or set httpRoute.enabled=false (with helm template: --api-versions gateway.networking.k8s.io/v1/HTTPRoute)." -}}
{{- end -}}
{{- if and $route.enabled (not $route.parentRefs) -}}
{{- $found = append $found "httpRoute.enabled is true without a Gateway to belong to: set httpRoute.parentRefs[0].name." -}}
{{- end -}}
{{- if and .Values.ingress.tls.secret (not .Values.ingress.host) -}}
{{- $found = append $found "ingress.tls.secret is set without a host the certificate is for: set ingress.host." -}}
{{- end -}}
{{- $found | toJson -}}
{{- end }}
