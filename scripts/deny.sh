#!/bin/sh
# What the project depends on: licences, sources and bans always; security advisories where their database can be
# had (it lives in a git repository, so a machine without a way there has to do with the copy it has, or without).
set -eu

cargo deny --all-features check --hide-inclusion-graph licenses bans sources

databases="${CARGO_HOME:-$HOME/.cargo}/advisory-dbs"
fetched=yes
timeout 120 cargo deny fetch db </dev/null >/dev/null 2>&1 || fetched=no
newest=$(find "$databases" -mindepth 2 -maxdepth 2 -name .git 2>/dev/null | head -n 1)
if [ -z "$newest" ]; then
    cat <<'LOUD'
****************************************************************************
  ADVISORIES WERE NOT CHECKED: the RustSec database cannot be fetched from
  this machine, and there is no copy of it here. Nothing is known of them.
****************************************************************************
LOUD
    exit 0
fi
if [ "$fetched" = no ]; then
    echo "**** the advisory database could not be fetched; this copy of it is checked:" \
        "$(git -C "${newest%/.git}" log -1 --format=%cs) ****"
fi
touch "$newest/FETCH_HEAD"
cargo deny --all-features --offline check --hide-inclusion-graph advisories
