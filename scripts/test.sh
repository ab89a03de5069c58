#!/bin/bash
# Every test, once. What belongs to no machine runs first, then real machines (.config/nextest.toml orders them).
# Machines are also started as root, and as an ordinary user made for it: so this needs root. Another user's run
# goes through sudo; where that is not to be had, what can run does, the rest is named, and the exit is 1.
#   POSADA_TEST_CACHE   where the box that all tests share is kept (default /var/tmp/posada-test-<uid>)
set -euo pipefail
cd "$(dirname -- "${BASH_SOURCE[0]}")/.."

colour=()
if [ -n "${CI:-}" ] || [ ! -t 2 ]; then colour=(--color never); fi
export POSADA_BIN="${POSADA_BIN:-$PWD/target/debug/posada}"

cargo build --locked --package posada
cargo test --locked --workspace --doc --quiet
if [ "$(id -u)" -eq 0 ]; then
    # The ordinary user that several suites run as, made before they run side by side.
    id -u posada-test >/dev/null 2>&1 || useradd --create-home --shell /bin/bash posada-test
    exec cargo nextest run --locked --workspace "${colour[@]}" "$@" </dev/null
fi

if sudo -n true 2>/dev/null || { [ -t 0 ] && sudo -v; }; then
    echo "not root: the tests are built here and run through sudo"
    archive=$(mktemp --suffix=.tar.zst)
    trap 'rm -f "$archive"' EXIT
    cargo nextest archive --locked --workspace --archive-file "$archive" "${colour[@]}"
    sudo env "PATH=$PATH" "POSADA_BIN=$POSADA_BIN" "POSADA_TEST_CACHE=${POSADA_TEST_CACHE:-}" \
        "$(command -v cargo-nextest)" nextest run --archive-file "$archive" --workspace-remap "$PWD" \
        "${colour[@]}" "$@" </dev/null
    exit
fi

rooted=(posada-tests posada-box-catalog posada-container posada-network posada-userns)
status=0
cargo nextest run --locked --workspace "${rooted[@]/#/--exclude=}" "${colour[@]}" "$@" </dev/null || status=$?
cat >&2 <<LOUD
****************************************************************************
  NOT RUN, for want of root or sudo: ${rooted[*]}
  Run \`make test\` as root, or with sudo at hand, for all of the tests.
****************************************************************************
LOUD
exit $((status == 0 ? 1 : status))
