#!/bin/busybox sh
# shellcheck shell=dash
# What the tiny guest (tests/rig/tiny.sh) measures in itself, with the programs of a stock image (the first disk).
# Prints a line `RESULT NAME VALUE` each, in MB/s, operations a second, or Mbit/s.
#   disk SECONDS              the second disk by fio
#   net ADDRESS PEER SECONDS  TCP to and from PEER by iperf3, as ADDRESS/24
mkdir /image
mount -t ext4 -o ro /dev/vda1 /image
mount -t proc proc /image/proc
mount -t sysfs sys /image/sys
mount --bind /dev /image/dev
mount -t tmpfs tmpfs /image/tmp

fio() { # NAME RW SIZE SECONDS FIELD
    line=$(chroot /image fio --name=job --filename=/dev/vdb --direct=1 --ioengine=libaio --iodepth=32 --rw="$2" --bs="$3" \
        --time_based --runtime="$4" --minimal --terse-version=3 2>&1) || { echo "$line"; return 1; }
    echo "RESULT $1 $(echo "$line" | cut -d ';' -f "$5")"
}

iperf() { # NAME OPTION...
    name=$1
    shift
    text=$(chroot /image iperf3 -f m -i 0 "$@" 2>&1) || { echo "$text"; return 1; }
    echo "RESULT $name $(echo "$text" | awk '/receiver/ { print $7 }')"
}

case $1 in
    disk)
        # fio's fields: what was read begins at 7 (KiB/s) and 8 (operations a second), what was written at 48 and 49.
        fio read-1M read 1M "$2" 7
        fio randread-4K randread 4k "$2" 8
        fio write-1M write 1M "$2" 48
        fio randwrite-4K randwrite 4k "$2" 49
        ;;
    net)
        ip link set lo up
        ip link set eth0 up
        ip addr add "$2/24" dev eth0
        iperf guest-to-host -c "$3" -t "$4"
        iperf host-to-guest -c "$3" -t "$4" -R
        ;;
esac
