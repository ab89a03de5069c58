#!/bin/busybox sh
# shellcheck shell=dash
# /init of the tiny guest (tiny.sh). Says that it runs; loads the drivers of the devices that are there; runs
# /run/script, or what the kernel's command line has after ` -- `; tells its status; switches off.
echo POSADA-INIT
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for bus in acpi pci virtio; do
    for device in "/sys/bus/$bus/devices"/*; do
        [ ! -e "$device/modalias" ] || modprobe -q "$(cat "$device/modalias")"
    done
done
modprobe -q -a af_packet evdev
echo POSADA-READY
if [ -e /run/script ]; then
    sh /run/script "$@"
else
    eval "$*"
fi
echo "POSADA-STATUS $?"
poweroff -f
