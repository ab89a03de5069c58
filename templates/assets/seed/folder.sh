# Mounts a synced folder. $1: its tag; $2: where; $3: mount options; $4: the login user
tag=$1 target=$2 options=$3 user=$4
home=$(getent passwd "$user" | cut -d: -f6)
make() {
    [ -d "$1" ] && return
    make "$(dirname -- "$1")" && mkdir -- "$1" || return
    # What is made on the way in the user's home is the user's.
    case $1 in "${home:-/nonexistent}"/*) chown -- "$user:" "$1" ;; esac
}
make "$target" || exit
findmnt --types virtiofs --mountpoint "$target" >/dev/null ||
    mount -t virtiofs -o "$options" -- "$tag" "$target"
