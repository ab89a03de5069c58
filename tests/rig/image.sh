#!/bin/bash
# Builds a disk image as Debian's genericcloud one is, from Debian's packages: cloud kernel, systemd, netplan, sshd,
# cloud-init with its stock configuration, GRUB; nothing of Posada. Prints the folder that holds
#   disk.raw     GPT: 1 root (ext4), 14 BIOS boot, 15 ESP (empty: it starts by BIOS, or by its kernel directly)
#   disk.qcow2   the same, compressed (zlib)
# Built once for each set of inputs. Needs root.
#   tests/rig/image.sh [-p PACKAGE]... [-s SIZE] [bookworm|trixie]
#     -p   a package more (for measurements: fio, iperf3)
#     -s   the disk's size (default 2G)
set -euo pipefail
here=$(dirname -- "$(realpath "$0")")
extra=() size=2G
while getopts p:s: option; do
    case $option in
        p) extra+=("$OPTARG") ;;
        s) size=$OPTARG ;;
        *) exit 2 ;;
    esac
done
shift $((OPTIND - 1))
suite=${1:-bookworm}
[ "$(id -u)" -eq 0 ] || { echo "image.sh: needs root, for a system whose files are root's" >&2; exit 2; }

packages=(
    ca-certificates cloud-guest-utils cloud-init dbus dosfstools e2fsprogs fdisk grub-cloud-amd64 initramfs-tools
    iproute2 iputils-ping less libnss-myhostname libnss-resolve libpam-systemd linux-image-cloud-amd64 locales
    netbase netplan.io openssh-server procps python3 sudo systemd-resolved systemd-sysv systemd-timesyncd udev zstd
    "${extra[@]}"
)
digest=$({ echo "$suite $size ${packages[*]}"; cat "$0" "$here/image-boot.sh"; } | sha256sum | cut -c1-16)
images=$("$here/cache.sh")/images
folder=$images/$suite-$digest
mkdir -p "$images"
exec 9>"$folder.lock"
flock 9
if [ -d "$folder" ]; then
    echo "$folder"
    exit
fi
part=$(mktemp -d -p "$images")
trap 'rm -rf "$part"' EXIT
root=$part/root
uuid() { cat /proc/sys/kernel/random/uuid; }
root_part=$(uuid) esp_part=$(uuid)

# --- the system
mmdebstrap --quiet --mode=root --variant=apt --include="$(IFS=,; echo "${packages[*]}")" \
    --dpkgopt=force-unsafe-io --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    "$suite" "$root" >&2

# But for two options as Debian has it: on an emulated CPU that shares its host with others, udev may not have come to the
# partition within systemd's 90 seconds, nor mount(8) to its end, and the machine would start in emergency mode.
cat >"$root/etc/fstab" <<FSTAB
PARTUUID=$root_part / ext4 rw,discard,errors=remount-ro,x-systemd.growfs 0 1
PARTUUID=$esp_part /boot/efi vfat defaults,x-systemd.device-timeout=1200,x-systemd.mount-timeout=1200 0 0
FSTAB
mkdir -p "$root/boot/efi" "$root/etc/default/grub.d" "$root/etc/netplan"
cat >"$root/etc/default/grub.d/15_partuuid.cfg" <<'GRUB'
GRUB_DISABLE_LINUX_UUID=true
GRUB_DISABLE_LINUX_PARTUUID=false
GRUB
cat >"$root/etc/netplan/90-default.yaml" <<'NETPLAN'
network:
  version: 2
  ethernets:
    all-en:
      match: {name: "en*"}
      dhcp4: true
      dhcp4-overrides: {use-domains: true}
      dhcp6: true
      dhcp6-overrides: {use-domains: true}
NETPLAN
chmod 600 "$root/etc/netplan/90-default.yaml"
echo LANG=C.UTF-8 >"$root/etc/default/locale"
echo localhost >"$root/etc/hostname"
printf '127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n' >"$root/etc/hosts"
ln -sf ../run/systemd/resolve/stub-resolv.conf "$root/etc/resolv.conf"
chroot "$root" systemctl --quiet enable systemd-networkd systemd-resolved systemd-timesyncd
: >"$root/etc/machine-id"
rm -f "$root"/etc/ssh/ssh_host_*_key* "$root/var/lib/dbus/machine-id"

# --- the disk, with partitions where Debian has them
disk=$part/disk.raw
truncate -s "$size" "$disk"
sfdisk --quiet "$disk" <<TABLE
label: gpt
14: start=2048, size=6144, type=21686148-6449-6E6F-744E-656564454649
15: start=8192, size=253952, type=uefi, uuid=$esp_part
1: start=262144, type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709, uuid=$root_part
TABLE
sectors=$(sfdisk --json "$disk" | python3 -c 'import json, sys
print(next(p["size"] for p in json.load(sys.stdin)["partitiontable"]["partitions"] if p["start"] == 262144))')
mke2fs -q -t ext4 -O ^orphan_file,^metadata_csum_seed -E offset=$((262144 * 512)) -d "$root" "$disk" $((sectors / 2))k
mkfs.vfat -F 16 --offset 8192 "$disk" $((253952 / 2)) >/dev/null 2>&1
rm -rf "$root"

# --- its boot loader, installed and configured by itself where the disk is a disk
"$here/run-in-kvm.sh" -d "$part" -b "$disk" -- "$here/image-boot.sh" /dev/nvme0n2 >"$part/boot.log" 2>&1 ||
    { cat "$part/boot.log" >&2; exit 1; }
qemu-img convert -c -m 4 -W -O qcow2 "$disk" "$part/disk.qcow2"

chmod 755 "$part"
mv "$part" "$folder"
trap - EXIT
echo "$folder"
