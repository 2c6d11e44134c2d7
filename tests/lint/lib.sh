# tests/lint/lib.sh: sourced by the checks: shell options, the root of the tree, which files are ours.
# shellcheck shell=bash
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

# All our C, one path a line.
c_files() {
  find base proto broker gateway tests -name '*.[ch]' -not -path '*/node_modules/*' | LC_ALL=C sort
}

# need COMMAND PACKAGE: a check that cannot run is a failed check.
need() {
  command -v "$1" >/dev/null || {
    echo "$1 is missing (Debian: apt-get install $2)" >&2
    exit 1
  }
}

# need_major COMMAND VERSION: other major versions format and judge differently.
need_major() {
  local version
  version=$("$1" --version | grep -oE 'version [0-9]+' | head -1)
  if [[ $version != "version $2" ]]; then
    echo "$1 says \"$version\"; this tree is checked with major version $2" >&2
    exit 1
  fi
}
