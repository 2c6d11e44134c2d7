#!/usr/bin/env bash
# tests/support/trixie.sh: prints the path of an archive (tar.zst) with a minimal Debian 13, made with debootstrap and kept for a month
#
# Needs root. Where no image registry answers it stands in for the image debian:trixie-slim; tests/debian13.sh builds in it.
set -euo pipefail

cache=${XDG_CACHE_HOME:-$HOME/.cache}/xindao
archive=$cache/debian-trixie.tar.zst
mkdir -p "$cache"

exec 9>"$cache/debian-trixie.lock"
flock -w 300 9
if [[ -z $(find "$archive" -mtime -30 2>/dev/null) ]]; then
    echo "making a minimal Debian 13: $archive" >&2
    work=$(mktemp -d "$cache/debootstrap.XXXXXX")
    trap 'rm -rf --one-file-system "$work"' EXIT
    if ! timeout 300 debootstrap --variant=minbase trixie "$work/root" >"$work/log" 2>&1; then
        tail -n 20 "$work/log" "$work/root/debootstrap/debootstrap.log" >&2 || true
        exit 1
    fi
    rm -rf "$work/root/var/cache/apt/archives/"*.deb "$work/root/var/lib/apt/lists/"*
    tar -C "$work/root" --one-file-system -c . | zstd -q -3 -T2 -o "$work/archive"
    mv -f "$work/archive" "$archive"
fi
echo "$archive"
