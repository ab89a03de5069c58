#!/bin/bash
# Makes the first inputs of the fuzz targets, with the tools whose formats they read (scripts/packages.txt, groups `test` and
# `fuzz`).
#   scripts/fuzz-corpora.sh DIRECTORY
set -euo pipefail
cd "$(dirname -- "${BASH_SOURCE[0]}")/.."

corpus=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
place() { # TARGET NAME: where an input goes
    mkdir -p "$corpus/$1"
    echo "$corpus/$1/$2"
}
text() { # TARGET NAME: an input from what is read
    cat >"$(place "$1" "$2")"
}
sum() { printf '%064d' 7; }

# A root file system that is small and has one of everything.
root=$work/root
mkdir -p "$root"/{sbin,etc,usr/lib/posada,dev,var/empty}
printf '\177ELF\2\1\1\0\0\0\0\0\0\0\0\0\3\0\76\0%0100d' 0 >"$root/sbin/init"
chmod 4755 "$root/sbin/init"
printf 'root:x:0:0:root:/root:/bin/sh\nme:x:1000:1000::/home/me:/bin/sh\n' >"$root/etc/passwd"
printf 'ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n' >"$root/etc/os-release"
printf '{"user": "me"}' >"$root/usr/lib/posada/box.json"
ln -s ../sbin/init "$root/etc/link"
ln "$root/etc/passwd" "$root/etc/passwd-"
mkfifo "$root/var/pipe"
head -c 5000 /dev/zero | tr '\0' 'x' >"$root/var/$(printf 'n%.0s' {1..150})"
truncate -s 200K "$root/var/sparse"
printf 'in the middle' | dd of="$root/var/sparse" bs=1 seek=100000 conv=notrunc status=none
setfattr -n user.note -v something "$root/etc/os-release" 2>/dev/null || : # where the file system has none

archives() {
    local format version
    for format in gnu oldgnu pax ustar v7; do
        # Two have no such long names, one no pipes; they say so, and write the rest.
        tar --format="$format" -C "$root" -cf "$work/$format.tar" . 2>/dev/null || [[ $format =~ ^(v7|ustar)$ ]]
    done
    for version in 0.0 0.1 1.0; do
        tar --format=pax --sparse --sparse-version="$version" --xattrs -C "$root" -cf "$work/sparse-$version.tar" .
    done
    tar --format=gnu --sparse -C "$root" -cf "$work/sparse-gnu.tar" .
    bsdtar --format=pax --xattrs -C "$root" -cf "$work/bsd.tar" .
    gzip -k "$work/gnu.tar" && xz -k "$work/pax.tar" && zstd -q "$work/sparse-1.0.tar"
    for archive in "$work"/*.tar "$work"/*.tar.*; do
        cp "$archive" "$(place archive "${archive##*/}")"
        cp "$archive" "$(place unpack "${archive##*/}")"
    done
    # The records of pax headers: what follows a header of the type x.
    python3 - "$work" "$(place pax records)" <<'PY'
import glob, sys
for name in glob.glob(sys.argv[1] + "/*.tar"):
    data, at, count = open(name, "rb").read(), 0, 0
    while at + 512 <= len(data) and data[at]:
        size = int(data[at + 124:at + 136].strip(b"\0 ") or b"0", 8)
        if data[at + 156:at + 157] == b"x":
            open("%s-%s-%d" % (sys.argv[2], name.rsplit("/", 1)[1], count), "wb").write(data[at + 512:at + 512 + size])
            count += 1
        at += 512 + (size + 511) // 512 * 512
PY
    # Boxes of Vagrant's.
    mkdir "$work/box"
    printf '{"provider": "lxc", "version": "1.0.0"}' >"$work/box/metadata.json"
    cp "$work/gnu.tar.gz" "$work/box/rootfs.tar.gz"
    tar -C "$work/box" -czf "$(place unpack lxc.box)" metadata.json rootfs.tar.gz
    cp "$(place unpack lxc.box)" "$(place archive lxc.box)"
}

images() {
    local format name options
    head -c 40000 /dev/urandom >"$work/disk.raw"
    truncate -s 1M "$work/disk.raw"
    while read -r name format options; do
        # shellcheck disable=SC2086 # options are several words
        qemu-img convert -q -f raw -O "$format" $options "$work/disk.raw" "$work/disk.$name"
        cp "$work/disk.$name" "$(place image "$name")"
        head -c 65536 "$work/disk.$name" >"$(place qcow2_header "$name")"
    done <<'LIST'
qcow2 qcow2
qcow2-zlib qcow2 -c
qcow2-zstd qcow2 -c -o compression_type=zstd
qcow2-old qcow2 -o compat=0.10
qcow2-small qcow2 -o cluster_size=512
qcow2-wide qcow2 -o extended_l2=on,cluster_size=16k
vmdk vmdk
vmdk-stream vmdk -o subformat=streamOptimized
vdi vdi
vdi-fixed vdi -o static=on
vhd vpc
vhd-fixed vpc -o subformat=fixed
vhdx vhdx -o block_size=1M
vhdx-fixed vhdx -o block_size=1M,subformat=fixed
parallels parallels
LIST
    qemu-img convert -q -f raw -O vmdk -o subformat=monolithicFlat "$work/disk.raw" "$work/flat.vmdk"
    cp "$work/flat.vmdk" "$(place image vmdk-flat)"
    find "$corpus/qcow2_header" -name 'v*' -delete
    find "$corpus/qcow2_header" -name 'p*' -delete
    for name in qcow2 vmdk-stream vdi; do
        mkdir -p "$work/machine" && cp "$work/disk.$name" "$work/machine/box.img"
        printf '{"provider": "libvirt", "format": "qcow2", "virtual_size": 1}' >"$work/machine/metadata.json"
        tar -C "$work/machine" -cf "$(place unpack "machine-$name")" metadata.json box.img
    done
}

disks() {
    local name options
    while read -r name options; do
        truncate -s 400K "$work/fs.$name"
        # shellcheck disable=SC2086 # options are several words
        mke2fs -q -F -t ext4 -d "$root" $options "$work/fs.$name"
        # The target has the boot block before what it is given.
        tail -c +1025 "$work/fs.$name" >"$(place ext4 "$name")"
    done <<'LIST'
plain -b 1024
blocks-2k -b 2048
no-extents -b 1024 -O ^extents,^64bit
inline -b 1024 -O inline_data
no-checksums -b 1024 -O ^metadata_csum
old -b 1024 -O none
LIST
    # As mkinitramfs(8) makes them: an archive that is plain, and behind it one that is compressed.
    local early="$work/early.cpio" main="$work/main.cpio" compress
    (cd "$root" && find . -maxdepth 1 | cpio -o -H newc --quiet) >"$early"
    (cd "$root" && find . | cpio -o -H newc --quiet) >"$main"
    cat "$early" "$main" >"$(place initrd plain)"
    for compress in gzip xz zstd "xz --format=lzma"; do
        # shellcheck disable=SC2086 # a program and what it is told
        { cat "$early"; $compress -c <"$main"; } >"$(place initrd "${compress##*[ =]}")"
    done
    truncate -s 200K "$work/gpt.img" "$work/mbr.img"
    printf 'label: gpt\nfirst-lba: 34\nstart=64, size=100, type=L\nstart=200, size=50, type=U, name="EFI"\n' |
        sfdisk -q "$work/gpt.img"
    printf 'label: dos\nstart=2, size=100, type=83, bootable\nstart=110, size=200, type=5\nstart=112, size=50, type=83\n' |
        sfdisk -q "$work/mbr.img"
    for name in gpt mbr; do
        cp "$work/$name.img" "$(place gpt "$name")"
        cp "$work/$name.img" "$(place mbr "$name")"
    done
    text grub debian <<'CFG'
set default="0"
if [ -s $prefix/grubenv ]; then
  load_env
fi
menuentry 'Debian GNU/Linux' --class debian --id 'gnulinux-simple' {
	insmod part_gpt
	search --no-floppy --label --set=root cloudimg-rootfs
	echo	'Loading Linux ...'
	linux	/boot/vmlinuz-6.1.0-18-cloud-amd64 root=PARTUUID=1234 ro console=ttyS0 ${extra_cmdline}
	initrd	/boot/initrd.img-6.1.0-18-cloud-amd64
}
submenu 'Advanced' { menuentry 'x' { linux /k single; initrd /i /j } }
source /boot/grub/custom.cfg
CFG
    printf 'blscfg\nset kernelopts="root=/dev/vda1"\n\0# GRUB Environment Block\nsaved_entry=1\nkernelopts=root=x ro\n####' |
        text grub fedora
    # shellcheck disable=SC2016 # the variable is the loader's
    printf 'title Fedora\nversion 6.8\nlinux /k\ninitrd /i\noptions root=UUID=1 ro $kernelopts\nmachine-id 0\nsort-key a\n\0title B\nlinux /k\narchitecture x64\n' |
        text bls two
}

squashed() {
    local codec
    for codec in gzip xz zstd lz4 lzo; do
        mksquashfs "$root" "$work/$codec.squashfs" -quiet -no-progress -comp "$codec" -b 4096 >/dev/null
        cp "$work/$codec.squashfs" "$(place squashfs "$codec")"
        cp "$work/$codec.squashfs" "$(place unpack "squashfs-$codec")"
    done
    mksquashfs "$root" "$work/plain.squashfs" -quiet -no-progress -noI -noD -noF -noX -b 4096 >/dev/null
    cp "$work/plain.squashfs" "$(place squashfs plain)"
}

registries() {
    local oci=$work/oci
    umoci init --layout "$oci" && umoci new --image "$oci:web"
    umoci unpack --rootless --image "$oci:web" "$work/bundle" 2>/dev/null
    printf x >"$work/bundle/rootfs/file"
    umoci repack --image "$oci:web" "$work/bundle" 2>/dev/null
    cp "$oci/index.json" "$(place oci_manifest index)"
    local blob
    while read -r blob; do
        if [ "$(head -c 1 "$blob")" = '{' ]; then
            cp "$blob" "$(place oci_manifest "oci-${blob##*/}")"
        else
            cp "$blob" "$(place archive "layer-${blob##*/}")"
        fi
    done < <(find "$oci/blobs" -type f)
    skopeo copy --quiet --format v2s2 "oci:$oci:web" "dir:$work/v2s2"
    cp "$work/v2s2/manifest.json" "$(place oci_manifest docker)"
    text oci_manifest box <<<"{\"schemaVersion\": 2, \"artifactType\": \"application/vnd.posada.box.v1\", \"config\": {\"mediaType\": \"application/vnd.oci.empty.v1+json\", \"digest\": \"sha256:$(sum)\", \"size\": 2}, \"layers\": [{\"mediaType\": \"application/octet-stream\", \"digest\": \"sha256:$(sum)\", \"size\": 3}], \"annotations\": {\"org.opencontainers.image.version\": \"1.0\"}}"
    text oci_login challenge <<<'Bearer realm="https://auth.example.org/token",service="registry.example.org",scope="repository:a/b:pull"'
    text oci_login token <<<'{"token": "abc", "access_token": "abc", "expires_in": 300}'
    text oci_login logins <<<'{"auths": {"https://h:5000/v1/": {"auth": "bWU6eA=="}, "h:5000/team": {"auth": "eA=="}}, "credsStore": "x"}'
}

texts() {
    printf 'content' >"$work/a.box"
    minisign -G -W -p "$work/key.pub" -s "$work/key" >/dev/null
    minisign -S -W -s "$work/key" -t 'posada box team/web 1.0 libvirt amd64' -m "$work/a.box" >/dev/null
    minisign -S -W -l -s "$work/key" -x "$work/old.minisig" -m "$work/a.box" >/dev/null
    cp "$work/a.box.minisig" "$(place minisign signature)"
    cp "$work/old.minisig" "$(place minisign old-signature)"
    cp "$work/key.pub" "$(place minisign public)"
    cp "$work/key" "$(place minisign secret)"
    printf 'hunter2\nhunter2\n' | minisign -G -p "$work/locked.pub" -s "$work/locked" >/dev/null 2>&1
    cp "$work/locked" "$(place minisign locked)"

    local kind
    for kind in md5 sha1 sha256 sha384 sha512; do
        (cd "$work" && "${kind}sum" a.box gnu.tar) | text sums "$kind"
        (cd "$work" && "${kind}sum" --tag a.box gnu.tar) | text sums "$kind-bsd"
    done
    sha256sum <"$work/a.box" | cut -d ' ' -f 1 | text sums alone
    text journal one <<<'{"format": 1, "version": {"size": 5000000, "validator": "\"a\""}, "boot": "x", "came": [[0, 2]], "synced": [[0, 1]]}'
    local header at=0
    while IFS= read -r header; do
        at=$((at + 1))
        printf %s "$header" | text response "$at"
        printf %s "$header" | text header "$at"
    done <<'LIST'
bytes 0-499/1234
bytes */1234
bytes=0-499
bytes=-500
bytes=9500-
120
Wed, 21 Oct 2026 07:28:00 GMT
sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad
https://me:secret@example.org:8443/a/b.box?access_token=x#sha256=0
team/web
1.0.0-rc.2
LIST

    local document
    document="{\"name\": \"team/web\", \"description\": \"x\", \"versions\": [{\"version\": \"1.2.0\", \"status\": \"active\", \"created_at\": \"2026-11-01T00:00:00.000Z\", \"providers\": [{\"name\": \"libvirt\", \"url\": \"https://h/a.box\", \"checksum\": \"$(sum)\", \"checksum_type\": \"sha256\", \"architecture\": \"amd64\", \"default_architecture\": true, \"size\": 3, \"signature\": \"untrusted comment: x\"}, {\"name\": \"lxc\", \"url\": \"b.box\", \"checksum\": \"\", \"checksum_type\": null, \"manifest\": \"manifest\"}]}, {\"version\": \"2.0\", \"status\": \"revoked\", \"providers\": []}]}"
    text catalog vagrant <<<"$document"
    text upstream vagrant <<<"$document"
    text simplestreams index <<<'{"format": "index:1.0", "index": {"images": {"datatype": "image-downloads", "path": "streams/v1/images.json", "products": ["a"]}}}'
    text simplestreams images <<<"{\"format\": \"products:1.0\", \"products\": {\"debian:bookworm:amd64:default\": {\"aliases\": \"debian/bookworm,debian/12\", \"arch\": \"amd64\", \"versions\": {\"20261125_05:24\": {\"items\": {\"root.tar.xz\": {\"ftype\": \"root.tar.xz\", \"path\": \"a/rootfs.tar.xz\", \"sha256\": \"$(sum)\", \"size\": 1}, \"disk.qcow2\": {\"ftype\": \"disk-kvm.img\", \"path\": \"a/disk.qcow2\", \"sha256\": \"$(sum)\"}}}}}}}"
    for name in delta_manifest file_manifest; do
        text "$name" two <<<"{\"size\": 7, \"sha256\": \"$(printf '%064d' 0)\", \"chunks\": [[\"$(sum)\", 3], [\"$(sum)\", 4]]}"
    done
    { printf 'x%.0s' {1..32}; printf '\3\0\0\0\14\0\0\0'; printf abc | zstd -q; } | tee "$(place bundle one)" |
        text delta_bundle one

    at=0
    while IFS= read -r header; do
        at=$((at + 1))
        printf %s "$header" | text reference "$at"
    done <<LIST
debian/12
./a.box
file:///srv/a.box
https://me:a-long-password-of-many-letters@h:8443/a/b.box?x=1#sha256=$(sum)
oci:registry.example.org:5000/team/web:1.2@sha256:$(sum)
oci:[::1]:5000/a__b/c-d
simplestreams:https://images.example.org/sub//#debian/12
s3://bucket/team/web.box#sha512:$(sum)$(sum)
build:debian/12
LIST
    printf '1.0\n1.0.a\n1.0-rc1\n>= 1.0, < 2, != 1.5\n' | text version several
    printf '01.00.pre\n20261127.1\n9.9.9\n~> 9.9' | text version pessimistic

    for name in boxes/*.yaml; do cp "$name" "$(place recipe "${name##*/}")"; done
    printf 'name: team/web\nextends: debian/13\nuser: app\npackages: [nginx]\nfiles: [{path: /etc/x, content: y, mode: "0600"}]\ndisk:\n  commands: ["true"]\n' |
        text recipe web
    cp examples/web/Vmfile "$(place vmfile web)"
    for name in templates/assets/vmfile-*.tera; do cp "$name" "$(place vmfile "${name##*/}")"; done
    awk -v to="$(place vmfile docs)" '/^```/ { inside = /^```yaml/; count += inside; next } inside { print > (to "-" count) }' \
        docs/vmfile.md
    text lockfile one <<<"{\"format\": 1, \"boxes\": {\"debian/12\": {\"rootfs\": {\"version\": \"1.0\", \"digest\": \"$(sum)\"}}}, \"scripts\": {\"web\": [{\"step\": \"0\", \"digest\": \"$(sum)\"}]}}"
    cp "$root/etc/passwd" "$(place system passwd)"
    cp "$root/etc/os-release" "$(place system os-release)"
    head -c 64 "$(command -v bash)" >"$(place system elf)"

    local url=/team/web/versions/1.0/lxc/amd64
    printf 'PUT %s/vagrant.box\n\nabc\036POST /api/v1/boxes/team/web/versions/1.0/release\n\n\036GET %s/vagrant.box\nrange: bytes=1-\n\n\036GET /team/web\naccept: application/json\nhost: example.org:80\n\n\036GET %s/manifest\n\n' "$url" "$url" "$url" |
        text requests round
    # BLAKE3 of `abc`, and a bundle with it.
    local chunk=6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85
    {
        printf 'POST /api/v1/chunks\n\n'
        python3 -c 'import sys; sys.stdout.buffer.write(bytes.fromhex(sys.argv[1]) + bytes([3, 0, 0, 0, 12, 0, 0, 0]))' "$chunk"
        printf abc | zstd -q --no-check
        printf '\036PUT %s/manifest\n\n{"size": 3, "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", "chunks": [["%s", 3]]}' "$url" "$chunk"
        printf '\036GET /api/v1/chunks/%s\n\n\036POST /api/v1/chunks/get\n\n{"digests": ["%s"]}\036POST /api/v1/chunks/missing\n\n{"digests": ["%s"]}' "$chunk" "$chunk" "$chunk"
    } | text requests chunks
    printf 'GET /\n\n\036GET /metrics\n\n\036PATCH /api/v1/boxes/team/web\n\n{"description": "x"}\036POST /api/v1/boxes/team/web/versions/1/yank\n\n\036DELETE /api/v1/boxes/team/web/versions/1\n\n\036GET /api/v1/boxes?q=a\n\n\036GET /api/v2/vagrant/team/web\n\n\036PUT %s/vagrant.box.minisig\n\nuntrusted comment: x\n' "$url" |
        text requests others
}

descriptions() {
    text description ovf <<'XML'
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1" xmlns:rasd="r"><References><File ovf:id="f1" ovf:href="a.vmdk" ovf:size="1"/></References><DiskSection><Disk ovf:diskId="d1" ovf:fileRef="f1" ovf:capacity="1"/></DiskSection><VirtualSystem ovf:id="v"><VirtualHardwareSection><Item><rasd:ResourceType>17</rasd:ResourceType><rasd:Parent>3</rasd:Parent><rasd:AddressOnParent>0</rasd:AddressOnParent><rasd:HostResource>ovf:/disk/d1</rasd:HostResource></Item></VirtualHardwareSection></VirtualSystem></Envelope>
XML
    text description parallels <<'XML'
<?xml version='1.0'?><Parallels_disk_image Version="1.0"><Disk_Parameters><Disk_size>2048</Disk_size></Disk_Parameters><StorageData><Storage><Start>0</Start><End>2048</End><Image><GUID>{5fbaabe3}</GUID><Type>Compressed</Type><File>a.hds</File></Image></Storage></StorageData></Parallels_disk_image>
XML
    text description xva <<'XML'
<value><struct><member><name>objects</name><value><array><data><value><struct><member><name>class</name><value>VDI</value></member><member><name>id</name><value>Ref:1</value></member><member><name>snapshot</name><value><struct><member><name>virtual_size</name><value>1048576</value></member></struct></value></member></struct></value><value><struct><member><name>class</name><value>VBD</value></member><member><name>id</name><value>Ref:2</value></member><member><name>snapshot</name><value><struct><member><name>VDI</name><value>Ref:1</value></member><member><name>userdevice</name><value>0</value></member><member><name>type</name><value>Disk</value></member></struct></value></member></struct></value></data></array></value></member></struct></value>
XML
}

for part in archives images disks squashed registries texts descriptions; do
    "$part"
done
echo "corpora: $(find "$corpus" -type f | wc -l) inputs for $(find "$corpus" -mindepth 1 -maxdepth 1 -type d | wc -l) targets in $corpus"
