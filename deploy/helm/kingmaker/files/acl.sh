# Writes Redis's ACL file: the rules, with the hash of each user's password in place of #<user>#.
# A user without a password in the Secret is left out; admin is the only one that may be.
set -eu
while read -r line; do
  user=${line#user }
  user=${user%% *}
  case "$line" in
    *"#$user#"*)
      if [ -s "$PASSWORDS/$user" ]; then
        hash=$(tr -d '\r\n' < "$PASSWORDS/$user" | sha256sum | cut -d ' ' -f 1)
        echo "${line%%#"$user"#*}#$hash${line#*#"$user"#}"
      elif [ "$user" != admin ]; then
        echo "the Secret with Redis passwords has no key $user" >&2
        exit 1
      fi
      ;;
    *) echo "$line" ;;
  esac
done < "$RULES" > "$TARGET"
