# lib.sh: shared by run.sh and selftest.sh: peers' packages, certificate, ports, processes. To be sourced.
# shellcheck shell=bash disable=SC2034 # variables are for those who source it

bench_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$bench_dir/../.." && pwd)
cache="$root/.cache/bench"
loadgen="$root/build/bench/xindao-loadgen"
bun="$cache/node_modules/bun/bin/bun.exe"

# Versions of the peers, so that tables stay comparable.
npm_packages=(bun@1.4.5 ws@8.18.3 socket.io@4.8.1)

die() {
    echo "${0##*/}: $*" >&2
    exit 1
}

build_loadgen() {
    if ! cmake -S "$bench_dir" -B "$root/build/bench" >/dev/null || ! cmake --build "$root/build/bench" -j2 >/dev/null; then
        die "the load generator does not build: cmake --build build/bench"
    fi
}

# Peers are used as published; nothing of them is copied into the tree.
install_peers() {
    local wanted="${npm_packages[*]}"
    if [[ "$(cat "$cache/installed" 2>/dev/null)" != "$wanted" ]]; then
        mkdir -p "$cache"
        echo '{"private": true}' >"$cache/package.json"
        (cd "$cache" && npm install --no-audit --no-fund --loglevel=error "${npm_packages[@]}" >&2) ||
            die "npm install ${npm_packages[*]} failed"
        # Where npm does not run install scripts, the bun binary has still to be put in its place.
        "$bun" --version >/dev/null 2>&1 || (cd "$cache/node_modules/bun" && node install.js >&2) || true
        "$bun" --version >/dev/null 2>&1 || die "the bun package has no binary for this machine"
        echo "$wanted" >"$cache/installed"
    fi
    export NODE_PATH="$cache/node_modules"
}

# make_certificate DIR: DIR/cert.pem and DIR/key.pem, ECDSA P-256.
make_certificate() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=localhost \
        -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout "$1/key.pem" -out "$1/cert.pem" 2>/dev/null ||
        die "openssl could not make a certificate"
}

free_port() {
    local port
    while port=$((20000 + RANDOM % 10000)); do
        if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            echo "$port"
            return
        fi
    done
}

# Processes are remembered by pid and ended by pid; taskset execs, so $! is the server itself.
started=()

# start LOG COMMAND…: runs it in the background; sets $pid.
start() {
    local log=$1
    shift
    : >"$log" # before anyone looks for "ready" in the log of the last server
    "$@" >"$log" 2>&1 </dev/null 9>&- &
    pid=$!
    started+=("$pid")
}

# wait_ready PID LOG: until the log says ready.
wait_ready() {
    for _ in {1..150}; do
        if grep -qiw ready "$2"; then
            return 0
        fi
        if ! kill -0 "$1" 2>/dev/null; then
            break
        fi
        sleep 0.1
    done
    echo "server did not get ready; its log:" >&2
    tail -n 20 "$2" >&2
    return 1
}

stop_all() {
    local p
    for p in "${started[@]}"; do
        kill "$p" 2>/dev/null || true
    done
    for p in "${started[@]}"; do
        for _ in {1..50}; do
            kill -0 "$p" 2>/dev/null || break
            sleep 0.1
        done
        kill -9 "$p" 2>/dev/null || true
        wait "$p" 2>/dev/null || true
    done
    started=()
}
