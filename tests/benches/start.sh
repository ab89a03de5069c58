#!/bin/sh
# Posada beside its peers; see start.py. POSADA names the binary that is measured.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
exec python3 -B "$here/start.py" "$@"
