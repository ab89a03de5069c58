#!/bin/bash
# What travels of a second version of a box: box-delta.sh FIRST SECOND, two raw disk images, pushed to a repository on this host and fetched
# from it one after the other. Prints what BOXES-RESULTS.md has. Nothing here is a test.
#   POSADA    the binary (default target/release/posada)
set -euo pipefail
top=$(realpath "$(dirname -- "$0")/../..")
posada=$(realpath "${POSADA:-$top/target/release/posada}")
images=("$(realpath "$1")" "$(realpath "$2")")
work=$(mktemp -d "${TMPDIR:-/var/tmp}/posada-box-delta.XXXXXX")
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null; rm -rf "$work"' EXIT
cd "$work"

mkfifo said
"$posada" box serve "$work/repository" --listen 127.0.0.1:0 --json >said 2>/dev/null &
server=$!
exec 3<said
read -r line <&3
url=$(python3 -c 'import json, sys; print(json.loads(sys.argv[1])["url"])' "$line")
cat <&3 >requests &
reader=$!
token=$("$posada" -q box token create "$work/repository" bench --push team)
for home in team desk; do
    printf %s "$token" | POSADA_HOME=$work/$home "$posada" -q box login "$url"
done
for version in 1 2; do
    POSADA_HOME=$work/team "$posada" -q box add "${images[version - 1]}" --name team/vm --version "$version"
    POSADA_HOME=$work/team "$posada" --json box push team/vm --version "$version" >"pushed$version"
done
# The second one without the first, too.
for fetch in "desk 1" "desk 2" "alone 2"; do
    read -r home version <<<"$fetch"
    [ -d "$home" ] || mkdir "$home"
    cp desk/servers.json "$home/" 2>/dev/null || :
    began=${EPOCHREALTIME/./}
    POSADA_HOME=$work/$home "$posada" -q box add team/vm --box-version "= $version"
    echo "$home $version $((${EPOCHREALTIME/./} - began))" >>moved-times
    curl -s "$url/healthz?$home$version" >/dev/null
done
POSADA_HOME=$work/desk "$posada" -q box export team/vm --format raw --output back.raw
cmp "${images[1]}" back.raw
kill "$server"
wait "$server" || :
server=
wait "$reader"
python3 - <<'END'
import json
def mb(n): return f"{n / 1e6:,.1f} MB"
for version in "12":
    pushed = [json.loads(line) for line in open(f"pushed{version}")]
    pushed = next(event for event in pushed if event["event"] == "box_pushed")
    print(f"push of version {version}: {mb(pushed['sent'])} sent of a file of {mb(pushed['size'])}")
times = iter([line.split() for line in open("moved-times")])
moved = 0
for event in map(json.loads, open("requests")):
    if event.get("event") != "request":
        continue
    if event["path"] == "/healthz":
        home, version, took = next(times)
        print(f"add of version {version} ({home}): {mb(moved)} came, {int(took) / 1e6:.1f} s")
        moved = 0
    elif event["method"] == "GET" or event["path"].endswith("/chunks/get"):
        moved += event["bytes"]
END
