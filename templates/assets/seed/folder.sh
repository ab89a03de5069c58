# Mounts a synced folder. $1: its tag; $2: where; $3: mount options; $4: the login user; $5: where the ways are
tag=$1 target=$2 options=$3 user=$4 way=$5/$1
home=$(getent passwd "$user" | cut -d: -f6)
make() {
    [ -d "$1" ] && return
    make "$(dirname -- "$1")" && mkdir -- "$1" || return
    # What is made on the way in the user's home is the user's.
    case $1 in "${home:-/nonexistent}"/*) chown -- "$user:" "$1" ;; esac
}
is_mounted() { findmnt --types virtiofs --mountpoint "$1" >/dev/null; }
# A second way to it, root's, by which the host's changes are raised (raise.sh). It is writable, as setting a time has to
# get as far as the host, and follows no symbolic link, so that no path in it leads out. Where mount(8) knows no such
# option, changes are not raised. It comes first: both show one file system, which is as writable as its first mount.
(umask 077 && mkdir -p -- "$way") &&
    { is_mounted "$way" || mount -t virtiofs -o nosuid,nodev,noexec,nosymfollow -- "$tag" "$way" 2>/dev/null; }
make "$target" || exit
is_mounted "$target" || mount -t virtiofs -o "$options" -- "$tag" "$target"
