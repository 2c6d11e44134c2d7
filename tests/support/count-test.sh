#!/usr/bin/env bash
# tests/support/count-test.sh: what count.awk makes of the output of each tool; a test run is only as honest as its counting.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
failed=0

expect() # WHAT "PASSED FAILED SKIPPED" TEXT
{
    local got
    got=$(printf '%b' "$3" | awk -f count.awk)
    if [[ $got == "$2" ]]; then
        echo "ok - $1"
    else
        echo "not ok - $1: \"$got\", not \"$2\""
        failed=1
    fi
}

expect "nothing is nothing" "" "building\nall is well, 12 things passed\n"
expect "a summary" "12 1 3" "not ok - x\n12 passed, 1 failed, 3 skipped\n"
expect "the last summary, with a name" "5 0 0" "1 passed, 1 failed\ntests/lint: 5 passed, 0 failed\n"
expect "ok and not ok" "2 3 1" "ok - a\nok   b\nnot ok - c\nFAIL d\nFAILED e\nok 4 - d # SKIP no x\nokay\nnot okay\n"
expect "where a script gave up is no test" "1 0 0" "ok - a\nnot ok - some.sh line 12, status 1\n"
expect "node, spec" "8 3 1" "  ✔ a (1ms)\nℹ tests 12\nℹ pass 8\nℹ fail 2\nℹ cancelled 1\nℹ skipped 1\nℹ todo 0\n"
expect "node, TAP: not twice" "1 1 0" "TAP version 13\nok 1 - a\nnot ok 2 - b\n# pass 1\n# fail 1\n"
expect "node without tests, and a script's own" "1 0 0" "ok - a\n# pass 0\n# fail 0\n"
expect "ctest: each cmocka test" "3 1 1" "7: [  PASSED  ] 3 test(s).\n7: [  SKIPPED ] 1 test(s), listed below:\n7: [  FAILED  ] 1 test(s), listed below:\n7: [  FAILED  ] x\n1/1 Test #7: t ........***Failed    0.01 sec\n"
expect "ctest: several in one program" "5 0 0" "7: [  PASSED  ] 3 test(s).\n7: [  PASSED  ] 2 test(s).\n1/1 Test  #7: t ........   Passed    0.01 sec\n"
expect "ctest: a leak after the last test" "3 1 0" "7: [  PASSED  ] 3 test(s).\n1/1 Test #7: t ........***Failed    0.01 sec\n"
expect "ctest: without cmocka" "1 3 1" " 1/5 Test #1: a ...   Passed    0.01 sec\n 2/5 Test #2: b ...***Timeout  60.00 sec\n 3/5 Test #3: c ...Subprocess aborted***Exception:   0.01 sec\n 4/5 Test #4: d ...***Not Run   0.00 sec\n 5/5 Test #5: e ...***Skipped   0.01 sec\n"
expect "two ctest runs" "3 1 0" "1: [  PASSED  ] 2 test(s).\n1/1 Test #1: a ...   Passed    0.01 sec\n1: [  PASSED  ] 1 test(s).\n1: [  FAILED  ] 1 test(s), listed below:\n1/1 Test #1: a ...***Failed    0.01 sec\n"
expect "colours and carriage returns" "1 1 0" "\033[32mok\033[0m - a\r\n\033[31mnot ok\033[0m - b\r\n"
exit "$failed"
