#!/bin/bash
# A box of 1 GiB of data from a repository on this host: `posada box add` beside `curl | sha256sum` and `tar`, and beside `vagrant box add`;
# and a machine's disk over a stored image beside `qemu-img create`. Prints what BOXES-RESULTS.md has. Nothing here is a test.
#   POSADA    the binary, released (default target/release/posada)
#   OVERLAY   providers/disk/examples/overlay.rs, built (default target/release/examples/overlay)
#   ROUNDS    rounds, taking turns (default 3)
set -euo pipefail
top=$(realpath "$(dirname -- "$0")/../..")
posada=$(realpath "${POSADA:-$top/target/release/posada}")
overlay=$(realpath "${OVERLAY:-$top/target/release/examples/overlay}")
rounds=${ROUNDS:-3}
work=$(mktemp -d "${TMPDIR:-/var/tmp}/posada-box-add.XXXXXX")
server=
trap '[ -z "$server" ] || kill "$server"; rm -rf "$work"' EXIT
cd "$work"
export POSADA_HOME=$work/home VAGRANT_HOME=$work/vagrant VAGRANT_CHECKPOINT_DISABLE=1

# Half of it cannot be compressed, half can, as in an image of a system.
python3 - <<'END'
import os
line = b"".join(b"%07d the quick brown fox jumps over the lazy dog\n" % n for n in range(20000))
os.makedirs("tree/etc")
open("tree/etc/os-release", "w").write("ID=debian\nVERSION_ID=12\n")
open("tree/etc/passwd", "w").write("root:x:0:0::/root:/bin/sh\nvagrant:x:1000:1000::/home/vagrant:/bin/sh\n")
for number in range(64):
    with open(f"tree/{number}", "wb") as out:
        for _ in range(8):
            out.write(os.urandom(1 << 20))
            out.write((line * 2)[: 1 << 20])
END
mke2fs -q -t ext4 -d tree disk.raw 1200M
qemu-img convert -f raw -O qcow2 disk.raw box.img
rm -r disk.raw tree
printf '{"provider":"libvirt","format":"qcow2","virtual_size":1}\n' >metadata.json
printf 'Vagrant.configure("2") do |config|\nend\n' >Vagrantfile
tar -cf - metadata.json Vagrantfile box.img | gzip -3 >big.box
rm box.img

mkfifo said
"$posada" box serve "$work/repository" --listen 127.0.0.1:0 --json >said 2>/dev/null &
server=$!
exec 3<said
read -r line <&3
url=$(python3 -c 'import json, sys; print(json.loads(sys.argv[1])["url"])' "$line")
cat <&3 >/dev/null &
token=$("$posada" -q box token create "$work/repository" bench --push team)
printf %s "$token" | "$posada" -q box login "$url"
"$posada" -q box push team/big big.box --version 1 --provider libvirt --architecture amd64
export POSADA_SERVER_URL=$url VAGRANT_SERVER_URL=$url
file=$url/team/big/versions/1/libvirt/amd64/vagrant.box
login=$POSADA_HOME/servers.json
cp "$login" servers.json

seconds() { # NAME COMMAND...
    local name=$1 began
    shift
    sync
    began=${EPOCHREALTIME/./}
    "$@" >/dev/null 2>"$work/errors" || { cat "$work/errors" >&2; return 1; }
    echo "$name $((${EPOCHREALTIME/./} - began))e-6" | tee -a "$work/times"
}
fetch_and_hash() { curl -sSf "$file" | tee "$work/fetched.box" | sha256sum; }
unpack() { mkdir "$work/unpacked" && tar -xzf "$work/fetched.box" -C "$work/unpacked" && sync -f "$work/unpacked"; }
for ((round = 0; round < rounds; round++)); do
    seconds fetch fetch_and_hash
    seconds unpack unpack
    rm -rf unpacked fetched.box
    seconds posada "$posada" -q box add team/big --provider libvirt --architecture amd64
    rm -rf "$POSADA_HOME" && mkdir -m 700 "$POSADA_HOME" && cp servers.json "$POSADA_HOME"
    if command -v vagrant >/dev/null; then
        seconds vagrant vagrant box add team/big --provider libvirt
        rm -rf "$VAGRANT_HOME"
    fi
done

for size in 1G 64G 2T; do
    truncate -s "$size" "$work/base.raw"
    "$overlay" "$work/base.raw" "$work" 20 | sed "s/^/disk-$size /" >>"$work/times"
    for ((round = 0; round < 20; round++)); do
        began=${EPOCHREALTIME/./}
        qemu-img create -q -f qcow2 -F raw -b "$work/base.raw" "$work/top.qcow2"
        echo "qemu-img-$size $((${EPOCHREALTIME/./} - began))e-3" >>"$work/times"
        rm "$work/top.qcow2"
    done
done

python3 - "$work/times" "$(stat -c %s big.box)" <<'END'
import collections, statistics, sys
times = collections.defaultdict(list)
for line in open(sys.argv[1]):
    name, value = line.split()
    times[name].append(float(value))
middle = {name: statistics.median(values) for name, values in times.items()}
parts = middle["fetch"] + middle["unpack"]
print(f"the box: {int(sys.argv[2]) / 1e6:,.0f} MB; medians of {len(times['posada'])} rounds, seconds")
print(f"curl | sha256sum: {middle['fetch']:.2f}; tar: {middle['unpack']:.2f}; together {parts:.2f}")
print(f"posada box add: {middle['posada']:.2f}, {middle['posada'] / parts:.2f} of these")
if "vagrant" in middle:
    print(f"vagrant box add: {middle['vagrant']:.2f}; posada takes {middle['posada'] / middle['vagrant']:.2f} of that")
for size in ("1G", "64G", "2T"):
    print(f"a disk over one of {size}: {middle['disk-' + size]:.2f} ms; qemu-img create {middle['qemu-img-' + size]:.2f} ms")
END
