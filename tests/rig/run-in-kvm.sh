#!/bin/bash
# Runs a command as root in a throw-away machine that has a real, stock KVM, also where the host has none: QEMU's
# software CPU with AMD's SVM, and in it Debian's cloud kernel with its own kvm_amd. Needs root.
#   tests/rig/run-in-kvm.sh [OPTION]... -- COMMAND [ARG]...
#     -d DIR          where the command runs, and the only folder whose changes stay (default: the working folder)
#     -s DIR          what /scratch holds to begin with (default: nothing)
#     -b FILE         a raw image that is /dev/nvme0n2, writable
#     -e NAME=VALUE   an environment variable; may be given again. PATH and HOME are the caller's, POSADA_RIG is 1
#     -t SECONDS      after which all is ended (default 600)
#     -m MIB          memory (default 3072)
#     -c CPUS         CPUs (default 1)
#     -i              its clock counts instructions (one a nanosecond; one CPU): slower, but what is measured in there
#                     does not depend on the host's load
#     -v              the machine's console goes to stderr too
# The machine's root shows the host's, changes go to memory. /dev/kvm, /dev/net/tun, /dev/vhost-net and
# /dev/vhost-vsock are there; /scratch is an ext4 of 8 GiB where O_DIRECT works; /tmp and /run are its own; there is
# no network but loopback. Exits with the command's status; 124 if time ran out, 125 if the machine gave no status
# or stood still.
set -euo pipefail
here=$(dirname -- "$(realpath "$0")")
dir=$PWD scratch='' disk='' limit=600 memory=3072 cpus=1 count='' verbose='' variables=()
while getopts d:s:b:e:t:m:c:iv option; do
    case $option in
        d) dir=$OPTARG ;;
        s) scratch=$OPTARG ;;
        b) disk=$OPTARG ;;
        e) variables+=("$OPTARG") ;;
        t) limit=$OPTARG ;;
        m) memory=$OPTARG ;;
        c) cpus=$OPTARG ;;
        i) count=1 ;;
        v) verbose=1 ;;
        *) exit 2 ;;
    esac
done
shift $((OPTIND - 1))
[ $# -gt 0 ] || { echo "run-in-kvm: no command" >&2; exit 2; }
[ "$(id -u)" -eq 0 ] || { echo "run-in-kvm: needs root, to show the host's files as they are" >&2; exit 2; }
dir=$(realpath "$dir")
[ "$dir" != / ] || { echo "run-in-kvm: all of the host's files are not a folder to work in" >&2; exit 2; }

kernel=$("$here/unpack.sh" linux-image-cloud-amd64)
vmlinux=$("$here/vmlinux.sh" "$kernel")
virtiofsd=$("$here/virtiofsd.sh")
initrd=$("$here/initrd.sh" "$kernel" "$here/first-guest.sh" \
    kvm-amd tun vhost_net vhost_vsock vsock_loopback virtio_pci virtiofs overlay virtio_console virtio-rng bridge \
    veth nvme ext4 crc32c_generic)

run=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || :; rm -rf "$run"' EXIT

# What this run is about comes as a second archive after the initrd.
mkdir "$run/run"
printf 'dir=%q\n' "$dir" >"$run/run/settings"
{
    printf 'export PATH=%q HOME=%q TERM=dumb POSADA_RIG=1\n' "$PATH" "$HOME"
    for variable in "${variables[@]}"; do printf 'export %q\n' "$variable"; done
    printf 'cd %q && exec' "$dir"
    printf ' %q' "$@"
} >"$run/run/command"
(cd "$run" && find run | cpio -o -H newc --quiet) | cat "$initrd" - >"$run/initrd"

truncate -s 8G "$run/scratch"
mke2fs -q -t ext4 -O ^has_journal -E lazy_itable_init=1,nodiscard ${scratch:+-d "$scratch"} "$run/scratch"

# The host's root. It says when it can be connected to.
mkfifo "$run/said"
exec {said}<>"$run/said"
"$virtiofsd" --socket-path="$run/root" -o source=/ -o cache=always -o sandbox=chroot >&"$said" 2>&1 &
words=''
until [[ $words == *Waiting* ]]; do
    read -r -t 30 -u "$said" line || { echo "run-in-kvm: virtiofsd did not start: $words" >&2; exit 125; }
    words+=$line
done

disks=()
add_disk() { # FILE
    local id=disk${#disks[@]}
    disks+=(-drive "if=none,id=$id,file=$1,format=raw,cache=unsafe,discard=unmap" -device "nvme-ns,bus=nvme,drive=$id")
}
add_disk "$run/scratch"
[ -z "$disk" ] || add_disk "$disk"

# What costs an emulated CPU time and says nothing about a KVM is off.
command_line="console=ttyS0 panic=-1 mitigations=off tsc=reliable no_timer_check nokaslr init_on_alloc=0"
command_line+=" cryptomgr.notests lsm=landlock i8042.nokbd i8042.noaux"
[ -n "$verbose" ] || command_line+=" quiet"

# It says every second that it goes on. On busy hosts emulated CPUs have been seen to stand still for good, with
# nothing in their memory changing: that is told, rather than waited for until time runs out.
mkfifo "$run/beats"
exec {beats}<>"$run/beats"

status=0
timeout --foreground -k 5 "$limit" qemu-system-x86_64 -accel "tcg,thread=$([ -n "$count" ] && echo single || echo multi),tb-size=512" \
    ${count:+-icount shift=0} -cpu max,-la57 -M q35,memory-backend=ram \
    -object "memory-backend-memfd,id=ram,size=${memory}M,share=on" -m "$memory" -smp "$cpus" \
    -nodefaults -no-user-config -vga none -display none -no-reboot \
    -kernel "$vmlinux" -initrd "$run/initrd" \
    -append "$command_line" \
    -serial "file:$run/console" \
    -add-fd fd=10,set=1 -add-fd fd=11,set=2 -device virtio-serial-pci \
    -chardev file,id=stdout,path=/dev/fdset/1,append=on -device virtserialport,chardev=stdout,name=stdout \
    -chardev file,id=stderr,path=/dev/fdset/2,append=on -device virtserialport,chardev=stderr,name=stderr \
    -chardev "file,id=beats,path=$run/beats" -device virtserialport,chardev=beats,name=beats \
    -chardev "file,id=status,path=$run/status" -device virtserialport,chardev=status,name=status \
    -chardev "socket,id=root,path=$run/root" -device vhost-user-fs-pci,chardev=root,tag=host \
    -device nvme,id=nvme,serial=rig -device virtio-rng-pci "${disks[@]}" \
    </dev/null 10>&1 11>&2 &
machine=$!
{
    while read -r -t 180 -u "$beats" _; do :; done
    touch "$run/stalled"
    kill "$machine"
} &
wait "$machine" || status=$?

[ -z "$verbose" ] || cat "$run/console" >&2
if [ -s "$run/status" ]; then exit "$(cat "$run/status")"; fi
[ -n "$verbose" ] || cat "$run/console" >&2
[ "$status" -ne 124 ] || { echo "run-in-kvm: time ran out ($limit s)" >&2; exit 124; }
[ ! -e "$run/stalled" ] || { echo "run-in-kvm: the emulated CPU stood still, whatever ran on it" >&2; exit 125; }
echo "run-in-kvm: the machine gave no status (QEMU's was $status)" >&2
exit 125
