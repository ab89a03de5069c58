#!/bin/bash
# Writes an initrd: busybox, modules of a kernel with all that they depend on, and an init. Cached by what it is
# made of; prints its path.
#   tests/rig/initrd.sh FOLDER INIT MODULE...
#     FOLDER   a kernel package's folder, as unpack.sh prints it
#     INIT     the script for busybox's shell that is /init
# Not compressed: it is read faster than an emulated CPU unpacks. More files can follow it (archives concatenate).
set -euo pipefail
here=$(dirname -- "$(realpath "$0")")
[ $# -ge 2 ] || { echo "usage: tests/rig/initrd.sh FOLDER INIT MODULE..." >&2; exit 2; }
folder=$1 init=$2
shift 2

digest=$({ echo "$folder $*"; cat "$init" "$0"; stat -c %y /bin/busybox; } | sha256sum | cut -c1-16)
out=$("$here/cache.sh")/initrd-$digest.cpio
if [ ! -e "$out" ]; then
    modules=$(echo "$folder"/lib/modules/*)
    version=${modules##*/}
    [ -e "$modules/modules.dep" ] || busybox depmod -b "$folder" "$version"
    root=$(mktemp -d)
    trap 'rm -rf "$root" "$out.$$"' EXIT
    mkdir -p "$root"/{bin,proc,sys,dev,tmp} "$root/lib/modules/$version"
    cp /bin/busybox "$root/bin/"
    for applet in $(busybox --list); do ln -s busybox "$root/bin/$applet" 2>/dev/null || :; done
    ln -s bin "$root/sbin"
    install -m 755 "$init" "$root/init"
    for module in "$@"; do
        # "path/name.ko: path/of/dependency.ko ..."
        files=$(awk -v "name=/$module.ko:" 'index($1, name) { sub(":", ""); print }' "$modules/modules.dep")
        if [ -z "$files" ] && ! grep -q "/$module.ko\$" "$modules/modules.builtin"; then
            echo "initrd.sh: $version has no module $module" >&2
            exit 1
        fi
        for file in $files; do install -D -m 644 "$modules/$file" "$root/lib/modules/$version/$file"; done
    done
    cp "$modules"/modules.{order,builtin} "$root/lib/modules/$version/"
    busybox depmod -b "$root" "$version"
    (cd "$root" && find . | sort | cpio -o -H newc --quiet -R 0:0) >"$out.$$"
    mv "$out.$$" "$out"
fi
printf '%s\n' "$out"
