{{/*
Who may do what in Redis (docs/architecture.md, Contracts in Redis): only the controller writes routing and plans. A
script has the rights of who runs it, and the keys it names must be readable and writable. In brackets: what the controller
may do to the streams, which is to say when they go. files/acl.sh puts a password's hash in place of #user#.
*/}}
{{- define "kingmaker.aclRules" -}}
{{- $model := printf "km:{%s/*}" .Release.Namespace -}}
{{- $session := "-@all +ping +client|setinfo" -}}
user default off
user probe on nopass resetkeys resetchannels -@all +ping
user gateway on #gateway# resetkeys resetchannels &km:routing %R~km:models %R~{{ $model }}:routing %R~{{ $model }}:withdrawn %R~{{ $model }}:profile:* %W~{{ $model }}:events:* %RW~{{ $model }}:feedback:* %RW~km:gateways:* {{ $session }} +get +set +smembers +xadd +eval +subscribe +unsubscribe
user monitor on #monitor# resetkeys resetchannels %R~km:models %R~{{ $model }}:plan %R~{{ $model }}:profile:* %R~{{ $model }}:events:* %R~{{ $model }}:feedback:* %R~km:gateways:* %RW~{{ $model }}:monitor %RW~{{ $model }}:monitor:token %RW~{{ $model }}:evidence {{ $session }} +get +set +del +pexpire +mget +scan +smembers +xread +xinfo|stream +eval
user controller on #controller# resetkeys resetchannels &km:routing %RW~km:models %RW~{{ $model }}:routing %RW~{{ $model }}:withdrawn %RW~{{ $model }}:plan %RW~{{ $model }}:profile:* %R~km:gateways:* {{ $session }} +get +set +del +exists +mget +scan +smembers +sismember +sadd +srem +publish +eval (%RW~{{ $model }}:routing %RW~{{ $model }}:profile:* %RW~{{ $model }}:events:* %RW~{{ $model }}:feedback:* +exists +ttl +expire +persist +eval)
user admin on #admin# ~* &* +@all
{{- end }}
