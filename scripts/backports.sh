#!/bin/sh
# Adds Debian's backports suite of this release to apt's sources, from the archive that the machine already uses,
# and prints the suite's name. Nothing is done where the suite is configured; nothing installed comes from it
# unless it is asked for by name (apt gives backports a priority of 100). Needs root, and apt's lists.
set -eu

# shellcheck source=/dev/null
suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
file=/etc/apt/sources.list.d/posada-backports.sources

# Each configured index of packages: its suite as configured, its component, and the archive's address.
# shellcheck disable=SC2016 # the fields are apt's
indexes=$(apt-get indextargets --format '$(RELEASE) $(COMPONENT) $(REPO_URI) $(LABEL)' 'Created-By: Packages')
if printf '%s\n' "$indexes" | grep -q "^$suite-backports main "; then
    echo "$suite-backports"
    exit 0
fi
archive=$(printf '%s\n' "$indexes" | awk -v suite="$suite" '$1 == suite && $2 == "main" && $4 == "Debian" { print $3; exit }')
[ -n "$archive" ] || {
    echo "scripts/backports.sh: apt knows no Debian archive with $suite/main; run apt-get update, or add $suite-backports by hand" >&2
    exit 4
}
cat >"$file" <<SOURCES
# Written by Posada's scripts/backports.sh; may be removed.
Types: deb
URIs: $archive
Suites: $suite-backports
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
SOURCES
# Only this source: the others' lists are fresh.
apt-get update -qq -o Dir::Etc::sourcelist="$file" -o Dir::Etc::sourceparts=- -o APT::Get::List-Cleanup=0 >&2 || {
    rm -f "$file"
    echo "scripts/backports.sh: $archive has no $suite-backports" >&2
    exit 4
}
echo "$suite-backports"
