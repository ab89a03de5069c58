# The login user, before anything is put into its home. $1: its name
id -u "$1" >/dev/null 2>&1 && exit 0
group=--user-group
getent group "$1" >/dev/null && group="--gid=$1"
useradd --create-home --shell /bin/bash "$group" -- "$1"
