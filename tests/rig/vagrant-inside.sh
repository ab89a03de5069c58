#!/bin/bash
# Runs in the rig, for vagrant-box.sh: makes of the system on a disk one as Vagrant boxes hold. The public key that it
# is to know lies in the working folder.
#   tests/rig/vagrant-inside.sh DEVICE
set -euo pipefail
root=/run/image
mkdir "$root"
mount -t ext4 "${1:?a device}p1" "$root"
for folder in dev proc sys; do mount --rbind "/$folder" "$root/$folder"; done
chroot "$root" dpkg --purge cloud-init
chroot "$root" useradd --create-home --shell /bin/bash --password '*' vagrant
echo 'vagrant ALL=(ALL) NOPASSWD: ALL' >"$root/etc/sudoers.d/vagrant"
chmod 440 "$root/etc/sudoers.d/vagrant"
install -d -m 700 "$root/home/vagrant/.ssh"
install -m 600 authorized_keys "$root/home/vagrant/.ssh/authorized_keys"
chroot "$root" chown -R vagrant: /home/vagrant/.ssh
chroot "$root" ssh-keygen -A
umount -R "$root"
