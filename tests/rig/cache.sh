#!/bin/sh
# Prints the folder that tests/rig keeps things in, made if need be: unpacked packages, initrds, disk images.
#   POSADA_TEST_CACHE   the tests' cache (default /var/tmp/posada-test-<uid>); this is `rig` in it
set -eu
folder=${POSADA_TEST_CACHE:-/var/tmp/posada-test-$(id -u)}/rig
mkdir -p "$folder"
printf '%s\n' "$folder"
