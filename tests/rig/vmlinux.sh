#!/bin/bash
# Prints the path of a kernel's vmlinux, unpacked once out of its bzImage: an emulated CPU takes seconds to do that.
#   tests/rig/vmlinux.sh FOLDER      a kernel package's folder, as unpack.sh prints it
set -euo pipefail
folder=${1:?a folder}
image=$(echo "$folder"/boot/vmlinuz-*)
out=$folder/boot/vmlinux-${image##*/vmlinuz-}
if [ ! -e "$out" ]; then
    # The x86 boot protocol: setup_sects (0x1f1), payload_offset (0x248), payload_length (0x24c).
    field() { od -An -v -t "u$2" -j "$1" -N "$2" "$image" | tr -d ' '; }
    start=$((($(field 0x1f1 1) + 1) * 512 + $(field 0x248 4)))
    # The last four bytes are the unpacked size, after the compressed stream.
    length=$(($(field 0x24c 4) - 4))
    payload() { dd if="$image" bs=64K iflag=skip_bytes,count_bytes skip="$start" count="$length" status=none; }
    part=$(mktemp -p "$folder/boot")
    trap 'rm -f "$part"' EXIT
    case $(od -An -v -t x1 -j "$start" -N 4 "$image" | tr -d ' ') in
        02214c18) payload | lz4 -dcq >"$part" ;;
        fd377a58) payload | xz -dc >"$part" ;;
        28b52ffd) payload | zstd -dcq >"$part" ;;
        *) echo "vmlinux.sh: $image is compressed in a way not known here" >&2; exit 1 ;;
    esac
    chmod 644 "$part"
    mv "$part" "$out"
fi
printf '%s\n' "$out"
