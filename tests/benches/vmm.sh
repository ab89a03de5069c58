#!/bin/bash
# The built-in monitor beside QEMU's microvm and q35, in the rig; see VMM-RESULTS.md, which --write fills. Needs root.
#   tests/benches/vmm.sh [--write] [PART]...
#     PART   start idle ssh disk-raw disk-qcow2 net (default: all); each is one run of the rig of a few minutes
#   POSADA_BOOT   the monitor: providers/vmm/examples/boot.rs, built (default target/release/examples/boot)
#   ROUNDS        rounds of each part (default: the part's own)
#   ONLY          of the monitors these, separated by semicolons (default: all)
#   CLOCK         `counted` (default): the rig's clock counts instructions; `wall`: it is the host's, noisier and sooner done
#   LIMIT         seconds that each part may take (default 290)
#   RESULTS       a folder that results are kept in, so that short runs add up to one report (default: none)
# Nothing here is a test: no figure fails anything.
set -euo pipefail
here=$(dirname -- "$(realpath "$0")")
top=$(realpath "$here/../..")
rig=$top/tests/rig
write=
if [ "${1:-}" = --write ]; then
    write=--write
    shift
fi
[ $# -gt 0 ] || set -- start idle net disk-raw disk-qcow2 ssh
boot=$(realpath "${POSADA_BOOT:-$top/target/release/examples/boot}")

vmlinuz='' vmlinux='' initrd='' # set by:
eval "$("$rig/tiny.sh")"
tiny=$initrd
eval "$("$rig/tiny.sh" "$here/vmm/guest.sh")"
work=$(mktemp -d -p "$("$rig/cache.sh")")
trap 'rm -rf "$work"' EXIT
results=${RESULTS:-$work/results}
mkdir -p "$work/scratch" "$results"

# The stock image with the programs that measure; with its own kernel and initrd in $work, and its `root`.
need_image() {
    [ -z "${image:-}" ] || return 0
    image=$("$rig/image.sh" -p fio -p iperf3 bookworm)
    root=$(sfdisk --part-uuid "$image/disk.raw" 1)
    root=PARTUUID=${root,,} # as udev names it
    local disk="$image/disk.raw?offset=$((262144 * 512))" version name
    version=$(debugfs -R 'ls -p /boot' "$disk" 2>/dev/null | sed -n 's,.*/vmlinuz-\([^/]*\)/.*,\1,p' | sort -V | tail -n 1)
    for name in vmlinuz initrd.img; do
        debugfs -R "dump /boot/$name-$version $work/$name" "$disk" 2>/dev/null
    done
}

clock=(-i)
[ "${CLOCK:-counted}" = counted ] || clock=()
inside() { # PART SCRIPT ARGUMENT...
    echo "vmm.sh: $1" >&2
    "$rig/run-in-kvm.sh" -d "$work" -s "$work/scratch" -t "${LIMIT:-290}" "${clock[@]}" -e "POSADA_BOOT=$boot" -e "ONLY=${ONLY:-}" -- bash -c '
        mount -t debugfs debugfs /sys/kernel/debug
        exec nice -n -5 python3 -B "$@"' inside "$here/vmm/$2" "${@:3}" | tee -a "$results/$1"
}

for part; do
    case $part in start | idle) ;; *) need_image ;; esac
    case $part in
        start) inside start start.py "${ROUNDS:-3}" "$vmlinuz" "$vmlinux" "$tiny" ;;
        idle) inside idle idle.py "${ROUNDS:-2}" "$vmlinuz" "$tiny" ;;
        net) inside net throughput.py net tap "${ROUNDS:-2}" 1 "$vmlinuz" "$initrd" "$image/disk.raw" ;;
        disk-*) inside "$part" throughput.py disk "${part#disk-}" "${ROUNDS:-2}" 1 "$vmlinuz" "$initrd" "$image/disk.raw" ;;
        ssh) inside ssh ssh.py "${ROUNDS:-1}" "$work/vmlinuz" "$work/initrd.img" "$image/disk.qcow2" "$root" ;;
        *) echo "vmm.sh: no part $part" >&2; exit 2 ;;
    esac
done
cat "$results"/* | python3 -B "$here/vmm/report.py" $write
