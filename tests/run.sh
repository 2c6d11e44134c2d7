#!/usr/bin/env bash
# tests/run.sh [STAGE...]: the one command: installs what tests need, builds with both compilers, runs everything. Without arguments: all stages, in order.
#
# The output of each stage is in build/test-logs/STAGE.log; what failed is shown. The last line counts single tests: "N passed, N failed, N skipped". Exit status 0
# when nothing failed. A stage may skip itself with exit status 77 and a reason; it is counted as skipped. A stage whose results cannot be read has failed.
#
# TEST_LIMIT (seconds for everything, default 1170), FUZZ_SECONDS (per target, default 4).
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
export LC_ALL=C.UTF-8 NO_COLOR=1 FUZZ_SECONDS=${FUZZ_SECONDS:-4}
unset "${!XINDAO_@}" # the gateways under test read XINDAO_* variables
readonly logs=build/test-logs limit=${TEST_LIMIT:-1170}

# name, seconds it may take at most, what it is
readonly stages=(
    "deps        600  packages from Debian"
    "counting    10   how results are counted, here"
    "lint        420  layers, format, OpenAPI, clang-tidy, cppcheck, shell scripts"
    "gcc         300  gcc, ASan and UBSan"
    "clang       300  clang, ASan and UBSan, libFuzzer"
    "release     240  gcc, hardened"
    "unit        240  unit tests of both builds"
    "fuzz        240  corpus in both builds, and some seconds of fuzzing"
    "integration 480  real gateways, Redis, HAProxy and Chromium"
    "valgrind    180  shutdown without a leak or an open file"
    "bench       120  the load generator notices wrong servers"
    "compose     900  docker-compose, scaled"
    "debian13    900  build and unit tests on Debian 13"
)

# --- the stages; each runs in a process of its own ---

stage_deps()
{
    [[ -x deploy/install-deps.sh ]] || { echo "not ok - deploy/install-deps.sh is missing"; return 1; }
    deploy/install-deps.sh test
    echo "ok - everything the tests need is installed"
}

stage_counting() { tests/support/count-test.sh; }
stage_lint() { tests/lint/run.sh; }

build() # PRESET
{
    cmake --preset "$1"
    cmake --build --preset "$1" -- -j "$(nproc)"
    echo "ok - preset $1 builds"
}

no_warnings() # PRESET; warnings of the linker and of CMake are not errors by themselves
{
    if grep -E '(^|[ :])(CMake )?[Ww]arning[: ]' "$logs/$1.log" | grep -v '^\[[0-9]*/[0-9]*\]'; then
        echo "not ok - the build of $1 has warnings"
        return 1
    fi
    echo "ok - without a warning"
}

stage_gcc() { build asan; }
stage_clang() { build clang; }
stage_release()
{
    build release
    no_warnings release
}

run_ctest() # PRESET CTEST-OPTION...
{
    echo "# $1"
    # Most of them wait for a Redis, not for a core.
    ctest --test-dir "build/$1" --verbose --no-tests=error --timeout 120 --parallel $((2 * $(nproc))) "${@:2}"
}

stage_unit()
{
    local preset status=0
    for preset in asan clang; do
        run_ctest "$preset" --exclude-regex '^fuzz_' || status=1
    done
    return "$status"
}

fuzz_target() # PROGRAM
{
    local name=${1##*/} work out=$logs/${1##*/}.log options=()
    work=$(mktemp -d)
    [[ ! -e tests/fuzz/corpus/$name.dict ]] || options+=("-dict=tests/fuzz/corpus/$name.dict")
    # What it finds new goes to the work directory, never into the tree.
    if timeout --kill-after=5 $((FUZZ_SECONDS + 60)) "$1" -max_total_time="$FUZZ_SECONDS" -timeout=10 -rss_limit_mb=1024 \
        -print_final_stats=1 -artifact_prefix="build/fuzz-found-$name-" "${options[@]}" "$work" "tests/fuzz/corpus/$name" >"$out" 2>&1; then
        echo "ok - $name: $(sed -n 's/^stat::number_of_executed_units: *//p' "$out") runs in $FUZZ_SECONDS s"
    else
        tail -n 40 "$out"
        echo "not ok - $name; the input is build/fuzz-found-$name-*"
    fi
    rm -rf "$work"
}

stage_fuzz()
{
    local preset status=0 targets
    for preset in asan clang; do
        run_ctest "$preset" --tests-regex '^fuzz_' || status=1
    done
    mapfile -t targets < <(find build/clang/tests/fuzz -maxdepth 1 -name 'fuzz_*' -type f -executable | sort)
    [[ ${#targets[@]} -gt 0 ]] || { echo "not ok - no fuzz target was built"; return 1; }
    export -f fuzz_target
    export logs
    printf '%s\n' "${targets[@]}" | xargs -P "$(nproc)" -I TARGET bash -c 'fuzz_target TARGET'
    return "$status"
}

stage_integration() { XINDAO_GATEWAY=$PWD/build/asan/xindao-gateway tests/integration/run.sh; }
stage_valgrind() { XINDAO_GATEWAY=$PWD/build/release/xindao-gateway tests/integration/valgrind.sh; }
stage_bench() { tests/bench/selftest.sh; }
stage_compose() { tests/compose.sh; }
stage_debian13() { tests/debian13.sh; }

# --- running and counting ---

passed=0 failed=0 skipped=0
ahead_pid=""

# What failed, in the words of the tools, and how the output ends.
show() # LOG
{
    {
        grep -nE '^(not ok|FAIL)|\[  (FAILED|ERROR )|\*\*\*|✖|(error|ERROR|fatal):|Sanitizer:' "$1" | head -n 40 || true
        echo "… $1 ends:"
        tail -n 60 "$1"
    } | cut -c1-300 | sed 's/^/    /'
}

# The last stages need a Debian 13, which takes a while to download: meanwhile others can run.
fetch_ahead()
{
    [[ $(id -u) == 0 ]] || return 0
    (deploy/install-deps.sh docker && tests/support/trixie.sh) </dev/null >"$logs/ahead.log" 2>&1 &
    ahead_pid=$!
}

# Adds the stage's results and prints one line about it.
conclude() # NAME SECONDS STATUS
{
    local name=$1 seconds=$2 status=$3 log=$logs/$1.log p=0 f=0 s=0 note="" word=ok
    read -r p f s < <(awk -f tests/support/count.awk "$log" && echo) || true
    if [[ $status == 77 ]]; then
        p=0 f=0 s=1 word=skip
        note=$(grep -i 'skip' "$log" | tail -n 1 || true)
    elif [[ -z ${p:-} ]]; then
        p=0 f=1 s=0 note="no results in its output (exit status $status)"
    elif [[ $status == 124 || $status == 137 ]]; then
        f=$((f + 1)) note="out of time"
    elif [[ $status != 0 && $f == 0 ]]; then
        f=1 note="exit status $status"
    fi
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
    [[ $f == 0 ]] || word=FAIL
    if [[ $word == FAIL ]]; then
        show "$log"
    fi
    printf '%-4s %-12s %4d s  %d passed, %d failed, %d skipped%s\n' "$word" "$name" "$seconds" "$p" "$f" "$s" "${note:+  ($note)}"
}

run_stage() # NAME SECONDS ABOUT
{
    local name=$1 seconds=$2 left=$((limit - SECONDS)) started=$SECONDS status=0
    ((left > 5)) || left=5
    ((seconds < left)) || seconds=$left
    echo "---- $name: $3"
    # The grace period is for scripts that take down what they put up.
    timeout --kill-after=60 "$seconds" "$BASH" tests/run.sh --stage "$name" </dev/null >"$logs/$name.log" 2>&1 || status=$?
    conclude "$name" $((SECONDS - started)) "$status"
    [[ $name != deps || $status == 0 ]] || finish
}

finish()
{
    [[ -z $ahead_pid ]] || kill "$ahead_pid" 2>/dev/null || true
    echo "total $SECONDS s; logs: $logs"
    echo "$passed passed, $failed failed, $skipped skipped"
    [[ $failed == 0 && $((passed + skipped)) -gt 0 ]] || exit 1
    exit 0
}

usage()
{
    echo "usage: tests/run.sh [STAGE...]; stages:" >&2
    printf '  %s\n' "${stages[@]}" >&2
    exit 2
}

main()
{
    local entry name seconds about wanted
    if [[ ${1:-} == --stage ]]; then
        "stage_$2"
        return
    fi
    for wanted in "$@"; do
        printf '%s\n' "${stages[@]}" | grep -q "^$wanted " || usage
    done
    mkdir -p "$logs"
    for entry in "${stages[@]}"; do
        read -r name seconds about <<<"$entry"
        if [[ $# == 0 || " $* " == *" $name "* ]]; then
            run_stage "$name" "$seconds" "$about"
        fi
        [[ $name != deps || $# != 0 ]] || fetch_ahead
    done
    finish
}

main "$@"
