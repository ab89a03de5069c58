#!/bin/sh
# Installs the cargo tools named, at the versions this project is tested with, where they are missing.
#   scripts/cargo-tools.sh nextest|deny...
set -eu

command -v cargo >/dev/null || {
    echo "there is no Rust here; install it as https://rustup.rs says (README.md, \"What it needs\")" >&2
    exit 4
}

for tool in "$@"; do
    case "$tool" in
        nextest) version=0.9.151 ;;
        deny) version=0.20.2 ;;
        *) echo "scripts/cargo-tools.sh: no tool named $tool is known here" >&2; exit 2 ;;
    esac
    # Any version that is there serves: what the gates say of the project does not hang on it.
    if ! cargo "$tool" --version >/dev/null 2>&1; then
        echo "installing cargo-$tool $version from source: a few minutes, once"
        # Unoptimised: it builds in a quarter of the time, and neither tool has much to compute here.
        CARGO_PROFILE_DEV_DEBUG=false \
            cargo install --locked --debug --quiet "cargo-$tool" --version "$version" </dev/null
    fi
done
