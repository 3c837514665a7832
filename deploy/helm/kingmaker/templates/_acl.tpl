{{/*
Who may do what in Redis (docs/architecture.md, Contracts in Redis): only the controller writes routing and plans. A
script has the rights of who runs it. files/acl.sh puts a password's hash in place of #user#.
*/}}
{{- define "kingmaker.aclRules" -}}
{{- $model := printf "km:{%s/*}" .Release.Namespace -}}
{{- $session := "-@all +hello +auth +ping +select +client|setinfo +client|setname +client|id +client|maint_notifications" -}}
user default off
user probe on nopass resetkeys resetchannels -@all +ping
user gateway on #gateway# resetkeys resetchannels &km:routing %R~km:models %R~{{ $model }}:routing %R~{{ $model }}:profile:* %W~{{ $model }}:events:* %W~{{ $model }}:feedback:* %RW~km:gateways:* {{ $session }} +get +set +smembers +xadd +multi +exec +discard +subscribe +unsubscribe
user monitor on #monitor# resetkeys resetchannels %R~km:models %R~{{ $model }}:plan %R~{{ $model }}:profile:* %R~{{ $model }}:events:* %R~{{ $model }}:feedback:* %R~km:gateways:* %RW~{{ $model }}:monitor %RW~{{ $model }}:monitor:token %W~{{ $model }}:evidence {{ $session }} +get +set +del +pexpire +mget +scan +smembers +xread +xinfo|stream +eval
user controller on #controller# resetkeys resetchannels &km:routing %RW~km:models %RW~{{ $model }}:routing %RW~{{ $model }}:plan %RW~{{ $model }}:profile:* %R~{{ $model }}:evidence %R~km:gateways:* {{ $session }} +get +set +del +exists +mget +scan +smembers +sismember +sadd +srem +publish +evalsha +script|load +script|exists
user admin on #admin# ~* &* +@all
{{- end }}
