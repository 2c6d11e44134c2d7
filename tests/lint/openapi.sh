#!/usr/bin/env bash
# docs/openapi.yaml has every route of gateway/api_routes.h with its scope, and no other; what it refers to is there; every operation is tested. Usage: tests/lint/openapi.sh
source "$(dirname "$0")/lib.sh"

routes=$(sed -nE 's/^ *X\("([A-Z]+)", *"([^"]+)", *SCOPE_([A-Z_]+),.*/\1 \2 \3/p' gateway/api_routes.h | tr 'A-Z' 'a-z' |
  sed -E 's/(rooms|sessions|users)_(read|write)$/\1:\2/' | LC_ALL=C sort)
documented=$(awk '
  /^[a-z]/ { inside = $1 == "paths:" }
  inside && /^  \// { path = substr($1, 1, length($1) - 1) }
  inside && /^    (get|put|post|patch|delete):$/ { method = substr($1, 1, length($1) - 1); print_pending() }
  inside && /^      x-scope: / { scope = $2 }
  function print_pending() { if (pending != "") print pending, scope; pending = method " " path; scope = "none" }
  END { if (pending != "") print pending, scope }
' docs/openapi.yaml | LC_ALL=C sort)

status=0
if [[ -z $routes ]]; then
  echo "gateway/api_routes.h: no route could be read"
  status=1
fi
if [[ $(tr 'A-Z' 'a-z' <<<"$documented") != "$routes" ]]; then
  echo "docs/openapi.yaml and gateway/api_routes.h differ (< the document, > the program):"
  diff <(echo "$documented" | tr 'A-Z' 'a-z') <(echo "$routes") || true
  status=1
fi

# "#/components/parameters/limit" → a line "    limit:" below "  parameters:" of components.
defined=$(awk '
  /^[a-z]/ { inside = $1 == "components:" }
  inside && /^  [a-zA-Z]+:/ { group = substr($1, 1, length($1) - 1) }
  inside && /^    [a-zA-Z]+:/ { name = $1; sub(/:.*/, "", name); print group "/" name }
' docs/openapi.yaml)
while IFS= read -r ref; do
  if ! grep -qxF "$ref" <<<"$defined"; then
    echo "docs/openapi.yaml: nothing is called #/components/$ref"
    status=1
  fi
done < <(grep -oE '#/components/[a-zA-Z]+/[a-zA-Z]+' docs/openapi.yaml | sed 's,#/components/,,' | LC_ALL=C sort -u)

# What a new operation needs besides: tests/integration/operations.test.mjs looks whether the seed is a request for it.
count=0
while IFS= read -r id; do
  count=$((count + 1))
  if ! grep -qE "^  $id: \{" tests/integration/operations.test.mjs; then
    echo "tests/integration/operations.test.mjs: no row for $id: done, refused to who may not, refused when it makes no sense"
    status=1
  fi
  if [[ ! -s tests/fuzz/corpus/fuzz_operation/$id ]]; then
    echo "tests/fuzz/corpus/fuzz_operation/$id: no seed; a line METHOD /path, then the body"
    status=1
  fi
done < <(sed -nE 's/^      operationId: ([A-Za-z]+)$/\1/p' docs/openapi.yaml)
if [[ $count != $(wc -l <<<"$routes") ]]; then
  echo "docs/openapi.yaml: $count operationIds for $(wc -l <<<"$routes") routes"
  status=1
fi
exit $status
