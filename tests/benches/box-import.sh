#!/bin/bash
# `posada box import` beside `qemu-img convert`, by turns in one run: a disk with 1 GiB of files, half of which cannot be compressed, as qcow2
# (plain, compressed) and as VMDK (sparse, streamOptimized). Both end with everything on the disk. Posada also takes the SHA-256, looks for a
# kernel, and keeps qcow2 as it is, to which qemu-img converts it then; all else becomes raw. Prints what BOXES-RESULTS.md has. Nothing here
# is a test.
#   POSADA    the binary (default target/release/posada)
#   ROUNDS    default 3
set -euo pipefail
top=$(realpath "$(dirname -- "$0")/../..")
posada=$(realpath "${POSADA:-$top/target/release/posada}")
work=$(mktemp -d "${TMPDIR:-/var/tmp}/posada-box-import.XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work"

mkdir -p tree/etc tree/usr/lib/systemd tree/srv
echo ID=debian >tree/etc/os-release
cp /bin/true tree/usr/lib/systemd/systemd
python3 - <<'END'
import os
for part in range(4):
    with open(f"tree/srv/random-{part}", "wb") as out:
        out.write(os.urandom(128 << 20))
    with open(f"tree/srv/text-{part}", "w") as out:
        out.write(os.urandom(64 << 20).hex())
END
truncate -s 4G disk.raw
mke2fs -q -t ext4 -F -d tree disk.raw
rm -rf tree
declare -A target=([qcow2]=qcow2 [qcow2-packed]=qcow2 [vmdk]=raw [vmdk-stream]=raw)
qemu-img convert -O qcow2 disk.raw qcow2
qemu-img convert -c -O qcow2 disk.raw qcow2-packed
qemu-img convert -O vmdk -o subformat=monolithicSparse disk.raw vmdk
qemu-img convert -O vmdk -o subformat=streamOptimized disk.raw vmdk-stream
rm disk.raw
export POSADA_HOME=$work/home

timed() {
    local name=$1 began=${EPOCHREALTIME/./}
    shift
    "$@"
    echo "$name $((${EPOCHREALTIME/./} - began))e-6" >>"$work/times"
}
converted() {
    qemu-img convert -O "$2" "$1" out
    sync out
}
for round in $(seq "${ROUNDS:-3}"); do
    for file in qcow2 qcow2-packed vmdk vmdk-stream; do
        # What is read is in memory for both, and nothing of what the other wrote is still on its way.
        cat "$file" >/dev/null
        sync -f .
        timed "$file:posada" "$posada" -q box import "$file" --name "bench/$round"
        "$posada" -q box remove "bench/$round"
        sync -f .
        timed "$file:qemu-img" converted "$file" "${target[$file]}"
        rm out
    done
done
python3 - <<'END'
from statistics import median
times = {}
for line in open("times"):
    name, seconds = line.split()
    times.setdefault(name, []).append(float(seconds))
for file in ("qcow2", "qcow2-packed", "vmdk", "vmdk-stream"):
    ours, theirs = (median(times[f"{file}:{who}"]) for who in ("posada", "qemu-img"))
    print(f"{file}: posada {ours:.2f} s, qemu-img convert {theirs:.2f} s, ratio {ours / theirs:.2f}")
END
