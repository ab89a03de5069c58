#!/bin/bash
# Every test that needs a KVM which runs stock kernels: on the host's own, or, where it has none, in a machine that has
# one (tests/rig/run-in-kvm.sh). Prints a line a test and a summary; exits 1 where one failed or could not run.
# Needs root, as the rig and the disk image that the tests boot do; another user's run goes through sudo.
#   scripts/test-kvm.sh [--rest] [FILTER]
#     --rest   only what scripts/test.sh had to leave out: nothing on a host with such a KVM
#     FILTER   only the tests whose names contain it
#   POSADA_TEST_CACHE   where the rig and its images are kept (default /var/tmp/posada-test-<uid>)
set -euo pipefail
cd "$(dirname -- "${BASH_SOURCE[0]}")/.."

# The test programs, by the names that Cargo knows them by.
programs=(machine kvm_day conformance_kvm)
# Far above what any of them takes in the rig on two busy cores, in seconds.
limit=2400

has_kvm=
# A CPU with neither extension runs a guest's instructions in software, and not all of those of a stock kernel.
if [ -r /dev/kvm ] && [ -w /dev/kvm ] && grep -qwE 'vmx|svm' /proc/cpuinfo; then has_kvm=1; fi
if [ "${1:-}" = --rest ]; then
    shift
    if [ -n "$has_kvm" ]; then
        echo "this host has a KVM: its tests ran with all others"
        exit 0
    fi
fi
filter=("$@")

export POSADA_BIN="${POSADA_BIN:-$PWD/target/debug/posada}"
if [ -n "${POSADA_TEST_PROGRAMS:-}" ]; then
    read -ra paths <<<"$POSADA_TEST_PROGRAMS"
else
    cargo build --locked --package posada
    # The whole workspace's features, so that what the other tests are built of serves.
    mapfile -t paths < <(
        cargo test --locked --workspace "${programs[@]/#/--test=}" --no-run --message-format=json |
            python3 -c '
import json, sys
built = {}
for line in sys.stdin:
    message = json.loads(line)
    if message.get("executable") and message["profile"]["test"]:
        built[message["target"]["name"]] = message["executable"]
for name in sys.argv[1:]:
    print(built[name])' "${programs[@]}"
    )
fi
[ "${#paths[@]}" -eq "${#programs[@]}" ] || { echo "test-kvm: the test programs were not built" >&2; exit 1; }

if [ "$(id -u)" -ne 0 ]; then
    sudo -n true 2>/dev/null || { [ -t 0 ] && sudo -v; } || {
        echo "test-kvm: NOT RUN: this needs root, or sudo at hand" >&2
        exit 1
    }
    exec sudo env "PATH=$PATH" "POSADA_BIN=$POSADA_BIN" "POSADA_TEST_CACHE=${POSADA_TEST_CACHE:-}" \
        "POSADA_TEST_PROGRAMS=${paths[*]}" "$0" "${filter[@]}"
fi

work=$(mktemp -d -p "$(tests/rig/cache.sh)")
trap 'rm -rf "$work"' EXIT
# Made where there is a network to make them from.
image=$(tests/rig/image.sh)
tests/rig/tiny.sh >/dev/null
mkdir "$work/scratch"
ln "$image/disk.qcow2" "$work/scratch/disk.qcow2"

settings=(POSADA_TEST_NEEDS_KVM=1 "POSADA_BIN=$POSADA_BIN" "POSADA_TEST_CACHE=${POSADA_TEST_CACHE:-}")
if [ -n "$has_kvm" ]; then
    where="on this host's KVM"
    run() { env "${settings[@]}" "POSADA_TEST_IMAGE=$image" "$@" </dev/null; }
else
    where="in the rig"
    # A machine inside of an emulated one may take far longer than any other. On /scratch O_DIRECT works.
    settings+=(POSADA_TEST_IMAGE=/scratch POSADA_TEST_SCRATCH=/scratch)
    settings+=(POSADA_TEST_BOOT_SECONDS=1200 POSADA_TEST_HALT_SECONDS=200)
    rig() { tests/rig/run-in-kvm.sh -s "$work/scratch" -t "$limit" "${settings[@]/#/-e}" -- "$@"; }
    # 125 is the emulated machine's own end, kernel and all, which no program in it can bring about: seen to stand still
    # once in some ten hours, with a CPU that waits for an interrupt; why is not known. What is tested has said nothing
    # then, and is asked again, loudly and once.
    run() {
        local code=0
        rig "$@" || code=$?
        if [ "$code" -eq 125 ]; then
            echo "**** THE RIG'S OWN MACHINE DIED OR STOOD STILL, not what is tested in it: once more ****"
            code=0
            rig "$@" || code=$?
        fi
        return "$code"
    }
fi

# A program, each of its lines with its name before it.
one() {
    local name=${1##*/}
    name=${name%-*}
    local began=$SECONDS code=0
    run "$1" "${filter[@]}" |& tee "$work/$name.log" | sed --unbuffered "s/^/$name: /" || code=$?
    echo "$name: took $((SECONDS - began)) s"
    return "$code"
}

# Each program to its end, whatever came of the others. In the rig, whose machine has one CPU, the longest of them runs beside
# the others.
began=$SECONDS status=0
beside=
if [ -z "$has_kvm" ]; then
    one "${paths[-1]}" &
    beside=$!
    unset 'paths[-1]'
fi
for path in "${paths[@]}"; do
    one "$path" || status=1
done
if [ -n "$beside" ]; then wait "$beside" || status=1; fi
cat "$work"/*.log >"$work/log"

awk -v where="$where" -v seconds=$((SECONDS - began)) -v status="$status" '
    /^test result: / {
        programs++
        for (field = 2; field <= NF; field++) {
            if ($field == "passed;") passed += $(field - 1)
            if ($field == "failed;") failed += $(field - 1)
            if ($field == "ignored;") ignored += $(field - 1)
        }
    }
    END {
        printf "KVM tests %s: %d passed, %d failed, %d not run [%d s]\n", where, passed, failed, ignored, seconds
        exit !(status == 0 && programs == '"${#programs[@]}"' && failed == 0 && ignored == 0 && passed > 0)
    }' "$work/log"
