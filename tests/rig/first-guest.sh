#!/bin/busybox sh
# shellcheck shell=dash
# /init of the rig's first guest (run-in-kvm.sh): a root that shows the host's, a stock KVM, one command, and off.
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
dir=
# shellcheck source=/dev/null
. /run/settings
modprobe -a virtio_pci virtiofs overlay virtio_console
mkdir -p /host /top /n
mount -t virtiofs host /host || echo "run-in-kvm: no root"
mount -t tmpfs tmpfs /top
mkdir /top/upper /top/work
mount -t overlay -o lowerdir=/host,upperdir=/top/upper,workdir=/top/work overlay /n
modprobe -a kvm_amd tun vhost_net vhost_vsock vsock_loopback bridge veth virtio_rng
echo 0 >/sys/module/kvm/parameters/halt_poll_ns # a polling vCPU starves its monitor's threads
mount -t proc proc /n/proc
mount -t sysfs sys /n/sys
mount -t cgroup2 cgroup2 /n/sys/fs/cgroup
mount -t devtmpfs dev /n/dev
mkdir -p /n/dev/shm /n/dev/pts /n/scratch /n/lib/modules
mount -t tmpfs tmpfs /n/dev/shm
mount -t devpts -o ptmxmode=666 devpts /n/dev/pts
mount -t tmpfs -o mode=1777 tmpfs /n/tmp
mount -t tmpfs tmpfs /n/run
mount --bind /lib/modules /n/lib/modules
mount -t ext4 /dev/nvme0n1 /n/scratch
mkdir -p "/n$dir"
mount --bind "/host$dir" "/n$dir"
ip link set lo up
ln -s /proc/self/fd /n/dev/fd
for link in 0:stdin 1:stdout 2:stderr; do ln -s "/proc/self/fd/${link%:*}" "/n/dev/${link#*:}"; done
cp /run/command /n/run/command
port() { # NAME: the device of the virtio port
    for each in /sys/class/virtio-ports/*; do
        [ "$(cat "$each/name")" != "$1" ] || echo "/dev/${each##*/}"
    done
}
while echo; do sleep 1; done >"$(port beats)" &
chroot /n /bin/bash /run/command </dev/null >"$(port stdout)" 2>"$(port stderr)"
echo $? >"$(port status)"
umount /n/scratch
poweroff -f
