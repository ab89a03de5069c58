# The host name, now and at later boots. $1: the name; $2: the file that keeps it; $3: the kernel's file
[ "$(cat "$3")" = "$1" ] || printf '%s\n' "$1" >"$3" || exit
printf '%s\n' "$1" | cmp -s - "$2" || printf '%s\n' "$1" >"$2"
