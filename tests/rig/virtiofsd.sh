#!/bin/sh
# Prints the path of a virtiofsd: the installed one, else Debian's, unpacked into the cache. Bookworm's came with
# QEMU 7.2, which is not to be installed here (see scripts/packages.txt); it gets on with newer ones.
set -eu
here=$(dirname -- "$(realpath "$0")")
for found in /usr/libexec/virtiofsd /usr/lib/qemu/virtiofsd; do
    [ ! -x "$found" ] || { echo "$found"; exit 0; }
done
# shellcheck source=/dev/null
case $(. /etc/os-release && echo "$VERSION_CODENAME") in
    bookworm) echo "$("$here/unpack.sh" qemu-system-common/bookworm)/usr/lib/qemu/virtiofsd" ;;
    *) echo "$("$here/unpack.sh" virtiofsd)/usr/libexec/virtiofsd" ;;
esac
