#!/bin/bash
# Starts an image that image.sh built under QEMU in the rig, by its own boot loader, with a NoCloud seed, and tells
# when a new user's login over SSH worked: whether the image is in order, apart from the monitor under test.
#   tests/rig/check-image.sh FOLDER     a folder that image.sh printed
set -euo pipefail
here=$(dirname -- "$(realpath "$0")")
folder=$(realpath "${1:?a folder of image.sh}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

ssh-keygen -q -t ed25519 -N '' -f "$work/key"
printf 'instance-id: check\nlocal-hostname: guest\n' >"$work/meta-data"
cat >"$work/user-data" <<SEED
#cloud-config
users:
  - name: ana
    ssh_authorized_keys: ["$(cat "$work/key.pub")"]
    sudo: "ALL=(ALL) NOPASSWD:ALL"
SEED
mkfs.vfat -C -n CIDATA "$work/seed" 64 >/dev/null
mcopy -i "$work/seed" "$work/meta-data" "$work/user-data" ::

cat >"$work/inside" <<'INSIDE'
set -eu
qemu-img create -q -f qcow2 -F qcow2 -b "$1/disk.qcow2" /scratch/top
qemu-system-x86_64 -accel kvm -cpu host -M q35 -m 1024 -smp 1 -no-reboot -nodefaults -display none -serial file:/run/console \
    -drive if=virtio,file=/scratch/top,format=qcow2,cache=writeback -drive if=virtio,file=seed,format=raw,read-only=on \
    -nic user,model=virtio-net-pci,hostfwd=tcp:127.0.0.1:2222-:22 -device virtio-rng-pci &
read -r began _ </proc/uptime
login() {
    ssh -q -i key -p 2222 -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o ConnectTimeout=60 \
        ana@127.0.0.1 "$@"
}
# One login, when the console says that it can be had: each attempt costs this CPU seconds.
tail --pid=$! -n +1 -F /run/console 2>/dev/null | grep -q -m 1 'login:' || { cat /run/console; exit 1; }
read -r now _ </proc/uptime
echo "prompt after $(echo "$began $now" | awk '{ print int($2 - $1) }') s"
login true
read -r now _ </proc/uptime
echo "login after $(echo "$began $now" | awk '{ print int($2 - $1) }') s"
login 'sudo cloud-init status --wait --long; sudo grep -h -E "WARN|ERROR|failed" /var/log/cloud-init.log | head -n 20; hostname; cat /proc/cmdline; df -h /; systemctl --failed --no-legend
    systemd-analyze; systemd-analyze blame | head -n 12; ip -br address; sudo poweroff'
wait
read -r now _ </proc/uptime
echo "off after $(echo "$began $now" | awk '{ print int($2 - $1) }') s"
INSIDE
"$here/run-in-kvm.sh" -d "$work" -- bash inside "$folder"
