#!/bin/bash
# A guest that starts soon and holds little: Debian's stock cloud kernel, and an initrd of busybox and virtio drivers
# whose init (tiny-guest.sh) runs a script and switches off. Prints assignments for a shell:
#   vmlinuz=PATH   the kernel as packaged (bzImage)
#   vmlinux=PATH   the same as ELF
#   initrd=PATH    with SCRIPT in it, where one is given
#   tests/rig/tiny.sh [SCRIPT]
set -euo pipefail
here=$(dirname -- "$(realpath "$0")")
script=${1:-}

kernel=$("$here/unpack.sh" linux-image-cloud-amd64)
initrd=$("$here/initrd.sh" "$kernel" "$here/tiny-guest.sh" \
    virtio_pci virtio_blk virtio_net virtio_console virtio_balloon virtio-rng virtiofs \
    vmw_vsock_virtio_transport af_packet nvme ext4 crc32c_generic button evdev pvpanic-mmio)
if [ -n "$script" ]; then
    with=${initrd%.cpio}-$(sha256sum "$script" | cut -c1-16).cpio
    if [ ! -e "$with" ]; then
        part=$(mktemp -d)
        trap 'rm -rf "$part" "$with.$$"' EXIT
        install -D -m 755 "$script" "$part/run/script"
        (cd "$part" && find run | cpio -o -H newc --quiet -R 0:0) | cat "$initrd" - >"$with.$$"
        mv "$with.$$" "$with"
    fi
    initrd=$with
fi
printf 'vmlinuz=%q\n' "$kernel"/boot/vmlinuz-*
printf 'vmlinux=%q\ninitrd=%q\n' "$("$here/vmlinux.sh" "$kernel")" "$initrd"
