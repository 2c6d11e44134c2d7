#!/usr/bin/env bash
# tests/integration/run.sh [FILE...]: real gateways, Redis, HAProxy and Chromium; all *.test.mjs, or the files named.
#
# XINDAO_GATEWAY: the binary to test (default: build/asan, else build/release). XINDAO_KEEP_LOGS=1: print the gateways' logs of passing tests too.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")"

fail()
{
    echo "tests/integration: $*" >&2
    exit 1
}

for tool in node npm redis-server redis-cli haproxy openssl "${CHROMIUM:-chromium}"; do
    command -v "$tool" >/dev/null || fail "no $tool: deploy/install-deps.sh test"
done
export CHROMIUM=${CHROMIUM:-$(command -v chromium)}

# No lock file: it would name the registry that happened to be used.
if [[ ! -d node_modules/ws || package.json -nt node_modules/.package-lock.json ]]; then
    npm install --no-package-lock --no-audit --no-fund --loglevel=error
fi

options=(--test)
if node --help | grep -q -- --test-concurrency; then options+=(--test-concurrency=2); fi
if node --help | grep -q -- --test-reporter=; then options+=(--test-reporter=spec); fi

started=$SECONDS
status=0

run()
{
    (($# == 0)) || timeout --kill-after=10 900 node "${options[@]}" "$@" || status=$?
}

files=("$@")
[[ ${#files[@]} -gt 0 ]] || files=(*.test.mjs)
# Chromium drops its connections whenever a network interface comes or goes, and chaos makes some: what needs Chromium goes first.
mapfile -t browser < <(grep -l lib/browser.mjs "${files[@]}" || true)
mapfile -t others < <(grep -L lib/browser.mjs "${files[@]}" || true)
run "${browser[@]}"
run "${others[@]}"
echo "tests/integration: $((SECONDS - started)) s, exit status $status"
exit "$status"
