#!/usr/bin/env bash
# tests/debian13.sh: builds the project and runs its unit tests on Debian 13 (hiredis 1.2, OpenSSL 3.5, Redis 8 and Valkey 8), in a chroot made with debootstrap
#
# Exit status: 0 passed, 77 skipped (no root or no chroot possible; the reason is printed), anything else failed.
# The chroot with the packages stays in ~/.cache/xindao/debian13, so that the next run only builds. PRESET=name builds another preset than debug.
set -Eeuo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/xindao
chroot_dir=$cache/debian13
preset=${PRESET:-debug}
readonly limit=1200 # seconds for everything

trap 'echo "not ok - debian13.sh line $LINENO, status $?" >&2' ERR

skip()
{
    echo "skipped: $*"
    exit 77
}

unpack()
{
    local archive
    archive=$("$root/tests/support/trixie.sh")
    if [[ -e $chroot_dir/.complete && ! $archive -nt $chroot_dir/.complete ]]; then
        return
    fi
    rm -rf --one-file-system "$chroot_dir"
    mkdir -p "$chroot_dir"
    zstd -dcq "$archive" | tar -C "$chroot_dir" -x
    touch "$chroot_dir/.complete"
}

copy_source()
{
    mkdir -p "$chroot_dir/src"
    # What git would commit now; times are kept, so that a second run builds only what changed.
    (
        cd "$root"
        git ls-files -z --cached --others --exclude-standard |
            while IFS= read -r -d '' file; do
                [[ ! -e $file ]] || printf '%s\0' "$file"
            done | tar -c --no-recursion --null --files-from=-
    ) >"$chroot_dir/src.tar"
    find "$chroot_dir/src" -mindepth 1 -maxdepth 1 ! -name build -exec rm -rf {} +
    tar -C "$chroot_dir/src" -x --file "$chroot_dir/src.tar"
}

inside() # runs in the chroot
{
    cd /src
    deploy/install-deps.sh build unit valkey
    # shellcheck disable=SC1091 # that file is the chroot's
    (. /etc/os-release && echo "# $PRETTY_NAME, $(gcc --version | head -n 1), hiredis $(pkg-config --modversion hiredis), OpenSSL $(pkg-config --modversion openssl)")
    cmake --preset "$preset" >build.log
    cmake --build "build/$preset" -- -j "$(nproc)" >>build.log || {
        tail -n 60 build.log
        exit 1
    }
    local -a tests=(ctest --test-dir "build/$preset" --output-on-failure --no-tests=error --timeout 120 --parallel $((2 * $(nproc))))
    "${tests[@]}"
    echo "# the broker's tests again, with $(valkey-server --version | cut -d ' ' -f 1-3)"
    XINDAO_TEST_REDIS=valkey-server "${tests[@]}" -R '^test_broker'
}

main()
{
    if [[ ${1:-} == inside ]]; then
        inside
        return
    fi
    [[ $(id -u) == 0 ]] || skip "only root can make a chroot"
    "$root/deploy/install-deps.sh" docker || skip "debootstrap cannot be installed"
    mkdir -p "$cache"
    exec 9>"$cache/debian13.lock"
    flock -w 600 9 || { echo "not ok - another run has had the chroot for 10 minutes" >&2 && exit 1; }
    unshare --mount true 2>/dev/null || skip "no mount namespace here"
    unpack
    copy_source
    cp -L /etc/resolv.conf "$chroot_dir/etc/resolv.conf"
    printf '%s localhost\n' 127.0.0.1 ::1 >"$chroot_dir/etc/hosts"
    # Mounts and processes live in namespaces of their own and are gone with them.
    # shellcheck disable=SC2016 # the inner shell expands those
    timeout --kill-after=10 "$limit" unshare --mount --pid --fork --kill-child bash -Eeuo pipefail -c '
        mount -t proc proc "$1/proc"
        mount --rbind /dev "$1/dev"
        exec chroot "$1" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 PRESET="$2" /src/tests/debian13.sh inside' \
        - "$chroot_dir" "$preset" 9>&-
    echo "passed in $SECONDS s: $preset builds and passes on Debian 13"
}

main "$@"
