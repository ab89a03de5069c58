#!/bin/sh
# Installs the cargo tools named, at the versions this project is tested with, where they are missing.
#   scripts/cargo-tools.sh nextest|deny|s3s-fs...
set -eu

command -v cargo >/dev/null || {
    echo "there is no Rust here; install it as https://rustup.rs says (README.md, \"What it needs\")" >&2
    exit 4
}

for tool in "$@"; do
    flags=
    case "$tool" in
        nextest) crate=cargo-nextest version=0.9.151 ;;
        deny) crate=cargo-deny version=0.20.2 ;;
        s3s-fs) crate=s3s-fs version=0.14.1 flags=--features=binary ;; # what the tests keep buckets in
        *) echo "scripts/cargo-tools.sh: no tool named $tool is known here" >&2; exit 2 ;;
    esac
    # Any version that is there serves: what the gates say of the project does not hang on it.
    if ! "$crate" --version >/dev/null 2>&1; then
        echo "installing $crate $version from source: a few minutes, once"
        # Unoptimised: it builds in a quarter of the time, and none of them has much to compute here.
        CARGO_PROFILE_DEV_DEBUG=false \
            cargo install --locked --debug --quiet "$crate" --version "$version" $flags </dev/null
    fi
done
