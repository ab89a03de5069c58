#!/bin/bash
# Makes of an image of image.sh a box as Vagrant's for libvirt are: no cloud-init, a user `vagrant` who lets in the key
# that everybody has and may use sudo, host keys of its own; metadata.json, Vagrantfile and box.img in a tar archive.
# Prints the box's path. Built once for each set of inputs. Needs root.
#   tests/rig/vagrant-box.sh [image.sh's ARG]...
set -euo pipefail
here=$(dirname -- "$(realpath "$0")")
folder=$("$here/image.sh" "$@")
key=$here/../../provisioners/assets/vagrant-insecure-key
digest=$({ echo "$folder"; cat "$0" "$here/vagrant-inside.sh" "$key"; } | sha256sum | cut -c1-16)
out=$folder-vagrant-$digest.box
exec 9>"$out.lock"
flock 9
if [ ! -e "$out" ]; then
    part=$(mktemp -d -p "${out%/*}")
    trap 'rm -rf "$part"' EXIT
    cp --sparse=always "$folder/disk.raw" "$part/disk.raw"
    install -m 600 "$key" "$part/key"
    ssh-keygen -yf "$part/key" >"$part/authorized_keys"
    "$here/run-in-kvm.sh" -d "$part" -b "$part/disk.raw" -- bash "$here/vagrant-inside.sh" /dev/nvme0n2 \
        >"$part/log" 2>&1 || { cat "$part/log" >&2; exit 1; }
    qemu-img convert -c -m 4 -W -O qcow2 "$part/disk.raw" "$part/box.img"
    size=$(($(stat -c %s "$part/disk.raw") >> 30))
    echo "{\"provider\": \"libvirt\", \"format\": \"qcow2\", \"virtual_size\": $size}" >"$part/metadata.json"
    printf 'Vagrant.configure("2") do |config|\nend\n' >"$part/Vagrantfile"
    tar -C "$part" -c metadata.json Vagrantfile box.img | gzip -1 >"$part/box"
    mv "$part/box" "$out"
fi
echo "$out"
