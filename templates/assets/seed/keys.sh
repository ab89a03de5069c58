# Takes away the keys that the box came with. $1: the login user
home=$(getent passwd "$1" | cut -d: -f6)
[ -z "$home" ] || rm -f "$home/.ssh/authorized_keys"
