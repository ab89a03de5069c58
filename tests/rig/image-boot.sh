#!/bin/bash
# Runs in the rig: has the system on a disk install GRUB for BIOS and write its grub.cfg, as Debian does.
#   tests/rig/image-boot.sh DEVICE
set -euo pipefail
device=${1:?a device}
root=/run/image
mkdir "$root"
# The links that udev would have made: grub-mkconfig names the root by them.
declare -A tag=([uuid]=UUID [partuuid]=PART_ENTRY_UUID)
for name in uuid partuuid; do
    mkdir -p "/dev/disk/by-$name"
    ln -s "../../${device##*/}p1" "/dev/disk/by-$name/$(blkid -p -o value -s "${tag[$name]}" "${device}p1")"
done
mount -t ext4 "${device}p1" "$root"
for folder in dev proc sys; do mount --rbind "/$folder" "$root/$folder"; done
chroot "$root" grub-install --target=i386-pc "$device"
chroot "$root" update-grub
umount -R "$root"
