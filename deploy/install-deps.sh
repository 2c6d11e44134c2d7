#!/usr/bin/env bash
# deploy/install-deps.sh [build|unit|valkey|test|run|docker]...: installs what that step needs from Debian (12 or 13). Default: build run.
#
# The one list of packages: quickstart, the image, CI and the test scripts all come here. Quick and silent when nothing is missing.
# With --list it prints what is missing and installs nothing.
set -euo pipefail

# "package" is satisfied by that package; "package:command" also by a command of that name from anywhere (a Node.js that is not Debian's, say).
build_packages=(gcc libc6-dev cmake ninja-build pkg-config libev-dev libhiredis-dev libjansson-dev libprotobuf-c-dev
    protobuf-c-compiler libssl-dev libhttp-parser-dev uthash-dev zlib1g-dev)
unit_packages=("${build_packages[@]}" libcmocka-dev libjwt-dev redis-server)
valkey_packages=(valkey-server) # Debian 13 only
run_packages=(redis-server haproxy openssl curl iproute2 procps)
test_packages=("${unit_packages[@]}" "${run_packages[@]}" clang clang-format clang-tidy libclang-rt-dev cppcheck valgrind
    nodejs:node npm:npm chromium:chromium python3 git ca-certificates iptables libfaketime)
docker_packages=(docker.io docker-compose debootstrap iptables zstd)

usage()
{
    echo "usage: ${0##*/} [--list] [build|unit|valkey|test|run|docker]..." >&2
    exit 2
}

packages_of() # STEP...
{
    local step
    for step in "$@"; do
        case $step in
        build) printf '%s\n' "${build_packages[@]}" ;;
        unit) printf '%s\n' "${unit_packages[@]}" ;;
        valkey) printf '%s\n' "${valkey_packages[@]}" ;;
        test) printf '%s\n' "${test_packages[@]}" ;;
        run) printf '%s\n' "${run_packages[@]}" ;;
        docker) printf '%s\n' "${docker_packages[@]}" ;;
        *) usage ;;
        esac
    done | sort -u
}

missing_of() # PACKAGE[:COMMAND]...
{
    local installed entry
    installed=$(dpkg-query -W -f '${binary:Package} ${db:Status-Status}\n' 2>/dev/null |
        sed -n 's/^\([^: ]*\)\(:[^ ]*\)\? installed$/\1/p')
    for entry in "$@"; do
        if [[ $entry == *:* ]] && command -v "${entry#*:}" >/dev/null; then
            continue
        fi
        grep -qxF "${entry%%:*}" <<<"$installed" || echo "${entry%%:*}"
    done
}

# Debian starts a daemon as soon as it is installed; a system-wide Redis or HAProxy is not what anybody asked for here.
install_quietly() # PACKAGE...
{
    local policy=/usr/sbin/policy-rc.d made_policy=no status=0
    if [[ ! -e $policy ]]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 0755 "$policy"
        made_policy=yes
    fi
    export DEBIAN_FRONTEND=noninteractive
    { apt-get update -qq &&
        apt-get install -y -qq --no-install-recommends -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=120 "$@" >/dev/null; } || status=$?
    [[ $made_policy == no ]] || rm -f "$policy"
    return "$status"
}

main()
{
    local list_only=no
    if [[ ${1:-} == --list ]]; then
        list_only=yes
        shift
    fi
    [[ $# -gt 0 ]] || set -- build run
    local wanted missing
    wanted=$(packages_of "$@")
    mapfile -t wanted <<<"$wanted"
    missing=$(missing_of "${wanted[@]}")
    [[ -n $missing ]] || exit 0
    mapfile -t missing <<<"$missing"
    if [[ $list_only == yes ]]; then
        printf '%s\n' "${missing[@]}"
        exit 0
    fi
    if [[ $(id -u) != 0 ]]; then
        echo "missing packages; as root: apt-get install --no-install-recommends ${missing[*]}" >&2
        exit 1
    fi
    echo "installing: ${missing[*]}" >&2
    install_quietly "${missing[@]}"
}

main "$@"
