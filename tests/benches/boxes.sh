#!/bin/sh
# What a second version of a box costs: boxes.sh FIRST SECOND, two raw disk images. POSADA names the binary.
# Prints what BOXES-RESULTS.md has.
set -eu
posada=${POSADA:-posada}
first=$1 second=$2
POSADA_HOME=$(mktemp -d "${TMPDIR:-/var/tmp}/posada-boxes.XXXXXX")
export POSADA_HOME
trap 'rm -rf "$POSADA_HOME"' EXIT INT TERM

# gc FIELD: collects, and prints that field of what it tells.
gc() {
    "$posada" --json box gc | python3 -c '
import json, sys
events = map(json.loads, sys.stdin)
print(next(e for e in events if e["event"] == "box_gc")[sys.argv[1]])' "$1"
}

"$posada" -q box add "$first" --name bench/vm --version 1
one=$(gc kept_bytes)
"$posada" -q box add "$second" --name bench/vm --version 2
two=$(gc kept_bytes)
"$posada" -q box fsck
# The same image alone.
"$posada" -q box remove bench/vm --all
gc chunks >/dev/null
/usr/bin/time -f 'add: %e s, %M KiB at most in one process' "$posada" -q box add "$second" --name bench/vm --version 2
/usr/bin/time -f 'gc: %e s, %M KiB at most in one process' "$posada" -q box gc
alone=$(gc kept_bytes)
/usr/bin/time -f 'export, made from chunks first: %e s, %M KiB at most in one process' \
    "$posada" -q box export bench/vm --format raw --output "$POSADA_HOME/back.raw"
cmp "$second" "$POSADA_HOME/back.raw"
python3 - "$first" "$second" "$one" "$two" "$alone" <<'END'
import os, sys
first, second, one, two, alone = sys.argv[1:3] + [int(n) for n in sys.argv[3:]]
def mb(n): return f"{n / 1e6:,.1f} MB"
for name, path in (("first", first), ("second", second)):
    stat = os.stat(path)
    print(f"{name} image: {mb(stat.st_size)}, of which {mb(stat.st_blocks * 512)} are not holes")
print(f"first in chunks: {mb(one)}")
print(f"second alone in chunks: {mb(alone)}")
print(f"second after the first brings: {mb(two - one)}, {100 * (two - one) / alone:.1f} % of what it is alone")
END
