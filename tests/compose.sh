#!/usr/bin/env bash
# tests/compose.sh: the docker-compose stack for real: up, chat across gateways, scale 2 to 4, drain one, read a session with redis-cli, down
#
# Exit status: 0 passed, 77 skipped (no Docker engine can start here; the reason is printed), anything else failed.
# An engine is started when none runs, and stopped again; it and what it built stay in ~/.cache/xindao, so that the next run is quicker. Base images come from
# a registry where one answers; else stand-ins are made from Debian 13's packages. COMPOSE=command chooses the compose program.
set -Eeuo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
cache=${XDG_CACHE_HOME:-$HOME/.cache}/xindao
readonly limit=900 # seconds for everything
project=xdtest$$
work=$(mktemp -d)
read -ra compose <<<"${COMPOSE:-}"
engine_pid=""
stack_is_up=no

if [[ ${XD_COMPOSE_TEST:-} != inner ]]; then
    rm -rf "$work"
    XD_COMPOSE_TEST=inner exec timeout --kill-after=120 "$limit" "$0" "$@"
fi

say() { printf '# %3d s  %s\n' "$SECONDS" "$*"; }
skip()
{
    echo "skipped: $*"
    exit 77
}
fail()
{
    echo "not ok - $*" >&2
    exit 1
}
within() # SECONDS ARGUMENT...; compose with a deadline
{
    timeout "$1" "${compose[@]}" --project-name "$project" --file "$root/docker-compose.yml" "${@:2}"
}

# --- leaving nothing behind ---

cleanup()
{
    local status=$?
    trap - EXIT ERR
    trap '' TERM INT
    set +e
    if [[ $stack_is_up == yes ]]; then
        if [[ $status != 0 ]]; then
            within 20 ps
            within 20 logs --no-color --tail 40
        fi
        within 90 down --volumes --remove-orphans >"$work/down" 2>&1 || { cat "$work/down" && status=1; }
        local left filter=(--filter "label=com.docker.compose.project=$project")
        left=$(docker ps -aq "${filter[@]}" && docker volume ls -q "${filter[@]}" && docker network ls -q "${filter[@]}")
        [[ -z $left ]] || { echo "not ok - left behind: $left" && status=1; }
    fi
    [[ -z $engine_pid ]] || stop_engine
    rm -rf "$work"
    [[ $status != 0 ]] || echo "passed in $SECONDS s"
    exit "$status"
}
trap cleanup EXIT
trap 'echo "not ok - line $LINENO, status $?" >&2' ERR
trap 'echo "not ok - out of time or interrupted" >&2; exit 1' TERM INT

# --- the engine ---

find_programs()
{
    if ! docker info >/dev/null 2>&1; then
        [[ $(id -u) == 0 ]] || skip "no Docker engine runs, and only root can start one"
        # The lists may be old or no mirror may answer; then there is nothing to test with.
        deploy/install-deps.sh docker || skip "docker.io and docker-compose cannot be installed"
    fi
    deploy/install-deps.sh run
    if [[ ${#compose[@]} == 0 ]]; then
        if docker compose version >/dev/null 2>&1; then
            compose=(docker compose)
        else
            command -v docker-compose >/dev/null || deploy/install-deps.sh docker || skip "no docker-compose"
            compose=(docker-compose)
        fi
    fi
}

start_engine()
{
    if docker info >/dev/null 2>&1; then
        return
    fi
    mkdir -p "$cache"
    exec 8>"$cache/engine.lock"
    flock -w 600 8 || fail "another run has had the engine for 10 minutes"
    stop_leftover_engine
    export DOCKER_HOST=unix://$work/docker.sock
    local log=$cache/engine.log
    setsid dockerd --host "$DOCKER_HOST" --data-root "$cache/engine" --exec-root "$work/exec" --pidfile "$work/dockerd.pid" \
        </dev/null >"$log" 2>&1 8>&- &
    engine_pid=$!
    echo "$engine_pid" >"$cache/engine.pid"
    local deadline=$((SECONDS + 60))
    until docker info >/dev/null 2>&1; do
        if ! kill -0 "$engine_pid" 2>/dev/null || ((SECONDS > deadline)); then
            tail -n 5 "$log"
            skip "no Docker engine can start here (end of $log above)"
        fi
        sleep 0.2
    done
    say "started a Docker engine"
}

stop_leftover_engine() # of a run that was killed
{
    local pid
    pid=$(cat "$cache/engine.pid" 2>/dev/null) || return 0
    if tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -q "^dockerd .*$cache/engine "; then
        kill "$pid"
        timeout 30 tail --pid="$pid" -f /dev/null || kill -KILL "$pid"
    fi
    rm -f "$cache/engine.pid"
}

stop_engine()
{
    kill "$engine_pid" 2>/dev/null
    if ! timeout 30 tail --pid="$engine_pid" -f /dev/null; then
        kill -KILL "$engine_pid" 2>/dev/null
    fi
    rm -f "$cache/engine.pid"
}

# --- images ---

registry_answers() { timeout 60 docker pull -q debian:trixie-slim >/dev/null 2>&1; }

choose_images()
{
    export XD_GATEWAY_IMAGE=xindao-test/gateway
    if registry_answers && timeout 120 docker pull -q redis:7 >/dev/null && timeout 120 docker pull -q haproxy:3.0 >/dev/null; then
        say "base images from the registry"
        return
    fi
    export XD_BASE_IMAGE=xindao-test/debian:trixie XD_REDIS_IMAGE=xindao-test/redis XD_HAPROXY_IMAGE=xindao-test/haproxy
    if [[ -z $(docker image ls -q "$XD_BASE_IMAGE") ]]; then
        [[ $(id -u) == 0 ]] || fail "no image registry answers, and only root can make a stand-in"
        deploy/install-deps.sh docker
        local archive
        archive=$(tests/support/trixie.sh)
        zstd -dcq "$archive" | docker import - "$XD_BASE_IMAGE" >/dev/null
    fi
    stand_in "$XD_REDIS_IMAGE" 'RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends redis-server' \
        'RUN install -d -o redis -g redis /data' 'USER redis'
    stand_in "$XD_HAPROXY_IMAGE" 'RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends haproxy' 'USER haproxy'
    say "base images are stand-ins made from Debian 13's packages"
}

stand_in() # IMAGE INSTRUCTION...
{
    local image=$1
    shift
    printf '%s\n' "FROM $XD_BASE_IMAGE" 'ENV DEBIAN_FRONTEND=noninteractive' "$@" | timeout 180 docker build -q -t "$image" - >"$work/build" 2>&1 ||
        { cat "$work/build" && fail "cannot build $image"; }
}

build_gateway()
{
    # The stage with the compiler gets a name, so that pruning what older runs left does not take it along.
    timeout 300 docker build --file deploy/Dockerfile --build-arg "BASE_IMAGE=${XD_BASE_IMAGE:-debian:trixie-slim}" \
        --target tools --tag xindao-test/tools . >"$work/build" 2>&1 || { tail -n 40 "$work/build" && fail "the tools do not install"; }
    within 400 build gateway >"$work/build" 2>&1 || { tail -n 60 "$work/build" && fail "the image of the gateway does not build"; }
    [[ -z $engine_pid ]] || timeout 60 docker image prune --force >/dev/null || true
}

# --- the stack ---

free_port()
{
    local port
    while port=$((20000 + RANDOM % 12000)); do
        [[ -n $(ss -Hltn "sport = :$port") ]] || break
    done
    echo "$port"
}

scale() # N
{
    stack_is_up=yes
    within 180 up --detach --scale "gateway=$1" >"$work/up" 2>&1 || { cat "$work/up" && fail "up --scale gateway=$1"; }
}

wait_ready()
{
    local deadline=$((SECONDS + 60))
    until curl -sf --max-time 3 --cacert "$work/ca.pem" -o "$work/readyz" "https://localhost:$port/readyz"; do
        ((SECONDS < deadline)) || fail "the load balancer has no ready gateway after 60 s"
        sleep 0.5
    done
}

chat() # NODES [VARIABLE=VALUE...]
{
    timeout 240 env URL="wss://localhost:$port" CA="$work/ca.pem" NODES="$1" REDIS_CLI="docker exec -i $redis redis-cli" "${@:2}" \
        node tests/integration/compose-chat.mjs || fail "chatting over $1 gateways"
}

install_ws()
{
    [[ -d tests/integration/node_modules/ws ]] || (cd tests/integration && timeout 120 npm install --no-package-lock --silent --no-audit --no-fund)
}

containers() # SERVICE [DOCKER-PS-OPTION...]
{
    docker ps -q --filter "label=com.docker.compose.project=$project" --filter "label=com.docker.compose.service=$1" "${@:2}"
}

exits_are_clean() # of the gateway that was stopped
{
    local stopped
    stopped=$(containers gateway --all --filter status=exited)
    [[ $(wc -w <<<"$stopped") == 1 ]] || fail "expected one stopped gateway, not: $stopped"
    [[ $(docker inspect --format '{{.State.ExitCode}}' "$stopped") == 0 ]] || fail "the exit status of the stopped gateway"
    echo "ok - the stopped gateway exited with 0"
}

reload_keeps_running() # SIGHUP to process 1 of the others
{
    local container
    for container in $(containers gateway); do
        docker exec "$container" sh -c 'kill -HUP 1'
    done
    sleep 1
    wait_ready
    [[ $(containers gateway | wc -w) == 3 ]] || fail "a gateway ended at SIGHUP"
    echo "ok - SIGHUP reloads, and the gateways run on"
}

main()
{
    find_programs
    install_ws
    start_engine
    choose_images
    build_gateway
    say "built the image"

    port=$(free_port)
    export XD_PUBLISH=127.0.0.1:$port
    scale 2
    say "2 gateways, Redis and HAProxy are up (${compose[*]})"
    redis=$(containers redis)
    docker cp "$(containers certs --all)":/certs/ca.pem "$work/ca.pem" >/dev/null
    wait_ready
    chat 2

    scale 4
    say "scaled to 4"
    chat 4 STOP="docker stop -t 30"
    exits_are_clean
    reload_keeps_running
    say "tearing down"
}

main
