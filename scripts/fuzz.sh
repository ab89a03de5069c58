#!/bin/bash
# Fuzzes the parsers: builds the targets (`fuzz/README.md` tells of each), makes their corpora with the tools whose formats
# they read, and runs one after the other with libFuzzer.
#   scripts/fuzz.sh [SECONDS] [TARGET...]    60 seconds for each of all targets, where nothing else is said
#   scripts/fuzz.sh --corpora                makes the corpora, and nothing else
# What grows is kept below target/fuzz. Exits with 1 where something was found, and tells how to repeat it.
set -euo pipefail
cd "$(dirname -- "${BASH_SOURCE[0]}")/.."

home=$PWD/target/fuzz
host=$(rustc -vV | sed -n 's/^host: //p')
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$home/build}"
# Most resident memory of a target, MiB: what takes more for an input of this size has no bound.
memory=768

seconds=60 only=
case "${1:-}" in
    --corpora) only=corpora; shift ;;
    [0-9]*) seconds=$1; shift ;;
esac
mapfile -t all < <(find box-catalog orchestrator providers -path '*/fuzz/fuzz_targets/*.rs' -not -path '*/driver/*' \
    -printf '%f\n' | sed 's/\.rs$//' | sort)
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=("${all[@]}")
for target in "${targets[@]}"; do
    case " ${all[*]} " in
        *" $target "*) ;;
        *) echo "scripts/fuzz.sh: there is no target $target; there are: ${all[*]}" >&2; exit 2 ;;
    esac
done

# The longest input, bytes: of images as much as the smallest that their tools make.
longest() {
    case "$1" in
        image | ext4 | squashfs | unpack) echo $((1 << 20)) ;;
        archive | gpt | mbr) echo $((1 << 18)) ;;
        *) echo $((1 << 14)) ;;
    esac
}

if [ -z "$only" ]; then
    # What `cargo fuzz` passes, but for the sanitizers, which only nightly has: nearly all of this is safe Rust.
    flags="--cfg fuzzing -Ccodegen-units=4 -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4"
    flags+=" -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table"
    flags+=" -Cllvm-args=-sanitizer-coverage-trace-compares"
    binaries=()
    for target in "${targets[@]}"; do binaries+=(--bin "$target"); done
    # With a target named, build scripts and macros are built without all of this.
    CARGO_INCREMENTAL=0 RUSTFLAGS=$flags cargo build --manifest-path fuzz/Cargo.toml --locked --release --workspace \
        --target "$host" "${binaries[@]}"
fi

mkdir -p "$home"
if [ ! -e "$home/corpora-made" ]; then
    scripts/fuzz-corpora.sh "$home/corpus"
    touch "$home/corpora-made"
fi
[ -z "$only" ] || exit 0

found=0
printf '%-16s %12s %10s %9s\n' target executions coverage result
for target in "${targets[@]}"; do
    corpus=$home/corpus/$target artifacts=$home/artifacts/$target log=$home/$target.log
    mkdir -p "$corpus" "$artifacts"
    run=("$CARGO_TARGET_DIR/$host/release/$target" "-rss_limit_mb=$memory" -timeout=20 "-max_len=$(longest "$target")")
    result=sound
    # The environment is told to nobody, and nothing is asked of a terminal.
    "${run[@]}" "-max_total_time=$seconds" "-artifact_prefix=$artifacts/" -print_final_stats=1 -use_value_profile=0 \
        "$corpus" >"$log" 2>&1 </dev/null || result=FOUND
    done_=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    coverage=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -n 1)
    printf '%-16s %12s %10s %9s\n' "$target" "${done_:-?}" "${coverage:-?}" "$result"
    if [ "$result" = FOUND ]; then
        found=1
        input=$(sed -n 's/.*Test unit written to //p' "$log" | tail -n 1)
        grep -m 3 -E 'panicked at|ERROR: libFuzzer|SUMMARY' "$log" >&2 || :
        echo "    the input: ${input:-none was written; see $log}" >&2
        echo "    again:     ${run[*]} ${input:-$corpus}" >&2
    fi
done
exit "$found"
