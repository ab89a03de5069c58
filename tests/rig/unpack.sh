#!/bin/bash
# Unpacks a Debian package into the cache, once a version, without installing it; prints the folder.
#   tests/rig/unpack.sh PACKAGE[/SUITE]
# Of a package that only names the current kernel (linux-image-cloud-amd64), the kernel it names is unpacked.
set -euo pipefail
here=$(dirname -- "$(realpath "$0")")
cache=$("$here/cache.sh")/packages
package=${1:?a package}
known=$cache/${package//\//@}

# Sets `name`, the package to unpack, and `uri`, where it is: empty if apt does not know.
find_package() {
    name=$(apt-cache show --no-all-versions "$package" 2>/dev/null |
        sed -n 's/^Depends: .*\(linux-image-[0-9][^ ,]*\).*/\1/p')
    name=${name:-$package}
    uri=$(apt-get download --print-uris -qq "$name" 2>/dev/null) || uri=
}

# What apt answered serves until its lists change: asking takes seconds where it keeps no caches.
if [ -e "$known" ] && [ ! /var/lib/apt/lists -nt "$known" ]; then
    cat "$known"
    exit
fi
mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9

find_package
if [ -z "$uri" ]; then
    # The lists are not there.
    if [ "$(id -u)" -eq 0 ]; then apt-get update -qq; else sudo apt-get update -qq; fi </dev/null >&2
    find_package
    [ -n "$uri" ] || { echo "unpack.sh: apt knows no package $package" >&2; exit 1; }
fi
file=$(awk '{ print $2 }' <<<"$uri")
folder=$cache/${file%.deb}
if [ ! -d "$folder" ]; then
    part=$(mktemp -d -p "$cache")
    trap 'rm -rf "$part"' EXIT
    (cd "$part" && apt-get -qq -o APT::Sandbox::User="$(id -un)" download "$name" >&2)
    mkdir "$part/files"
    dpkg-deb -x "$part"/*.deb "$part/files"
    # busybox loads modules that are not compressed.
    find "$part/files" -name '*.ko.xz' -exec unxz {} +
    mv "$part/files" "$folder"
fi
printf '%s\n' "$folder" | tee "$known"
