#!/bin/sh
# Installs the Debian packages of the groups named (see packages.txt) that are not there yet.
#   scripts/packages.sh [--list|--missing] GROUP...
# A package that this Debian has too old comes from its backports (scripts/backports.sh).
# Says what it installs before it does; a quick no-op where nothing is missing.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
mode=install
case "${1:-}" in
    --list) mode=list; shift ;;
    --missing) mode=missing; shift ;;
esac
[ $# -gt 0 ] || { echo "usage: scripts/packages.sh [--list|--missing] GROUP..." >&2; exit 2; }

wanted() {
    for group in "$@"; do
        awk -v group="$group" '
            /^#/ || NF < 2 { next }
            { n = split($1, groups, ","); for (i = 1; i <= n; i++) if (groups[i] == group) { print $2; found = 1 } }
            END { if (!found) { print "scripts/packages.sh: there is no group " group > "/dev/stderr"; exit 2 } }
        ' "$here/packages.txt" || exit 2
    done
}

packages=$(wanted "$@")
if [ "$mode" = list ]; then
    printf '%s\n' "$packages" | sort -u
    exit 0
fi

if ! command -v dpkg-query >/dev/null; then
    printf 'this is no Debian system; please install what corresponds to:\n%s\n' "$packages" >&2
    exit 4
fi

# Whether the package is installed, and at least at the version asked for, if one is.
installed() {
    # shellcheck disable=SC2016 # the field names are dpkg's
    status=$(dpkg-query -W -f '${db:Status-Status} ${Version}' "$1" 2>/dev/null || true)
    [ "${status%% *}" = installed ] && dpkg --compare-versions "${status#* }" ge "${2:-0}"
}

# shellcheck disable=SC2086 # one package a word
missing=$(printf '%s\n' $packages | sort -u | while read -r package; do
    case "$package" in
        *'>='*) installed "${package%%>=*}" "${package#*>=}" || printf '%s ' "$package" ;;
        *) installed "$package" || printf '%s ' "$package" ;;
    esac
done)
if [ -z "$missing" ]; then
    exit 0
fi
if [ "$mode" = missing ]; then
    printf '%s\n' "$missing"
    exit 0
fi

as_root=
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "these packages are missing, and there is no sudo to install them with: $missing" >&2
        echo "as root:  apt-get install --no-install-recommends $missing" >&2
        exit 4
    fi
    as_root=sudo
fi
echo "installing Debian packages: $missing"
export DEBIAN_FRONTEND=noninteractive
$as_root apt-get update -qq </dev/null
install() {
    # shellcheck disable=SC2086 # nothing, or root's way
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" </dev/null
}

plain=
newer=
for package in $missing; do
    name=${package%%>=*}
    candidate=$(LC_ALL=C apt-cache policy "$name" | awk '$1 == "Candidate:" { print $2 }')
    if [ "$name" = "$package" ] || dpkg --compare-versions "$candidate" ge "${package#*>=}"; then
        plain="$plain $name"
    else
        newer="$newer $name"
    fi
done
# shellcheck disable=SC2086 # one package a word
[ -z "$plain" ] || install $plain
if [ -n "$newer" ]; then
    # This release is too old for them; its backports are not.
    suite=$($as_root "$here/backports.sh")
    # shellcheck disable=SC2086 # one package a word
    install -t "$suite" $newer
fi
