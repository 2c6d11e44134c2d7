# tests/support/count.awk: reads the output of a test tool and prints "PASSED FAILED SKIPPED"; prints nothing when it finds no result in it.
#
# Known: a line "N passed, N failed[, N skipped]" (the last one counts, nothing else), node --test (spec and TAP), ctest with and without -V (the
# cmocka tests inside a program are counted one by one, a program that fails otherwise counts as one), and lines that begin with ok / not ok.

{
    gsub(/\033\[[0-9;]*m/, "")
    sub(/\r$/, "")
}

/^([^ ]*: )?[0-9]+ passed, [0-9]+ failed(, [0-9]+ skipped)?$/ {
    text = $0
    sub(/^[^0-9 ]*: /, "", text)
    n = split(text, word, /[ ,]+/)
    said = 1
    said_pass = word[1]
    said_fail = word[3]
    said_skip = n > 4 ? word[5] : 0
}

# node --test: "ℹ pass 12" or "# pass 12"; a cancelled test is one that did not finish.
/^(ℹ|#) (pass|fail|cancelled|skipped|todo) [0-9]+$/ {
    node[$2] += $3
}

# ctest -V puts the number of the program in front of its output.
/^[0-9]+: \[  PASSED  \] [0-9]+ test\(s\)/ { cmocka_pass[$1 + 0] += $5 }
/^[0-9]+: \[  FAILED  \] [0-9]+ test\(s\)/ { cmocka_fail[$1 + 0] += $5 }
/^[0-9]+: \[  SKIPPED \] [0-9]+ test\(s\)/ { cmocka_skip[$1 + 0] += $5 }

# "3/14 Test #3: name ....   Passed    0.02 sec", or ***Failed, ***Timeout, ***Exception, ***Skipped, Not Run.
/^ *[0-9]+\/[0-9]+ Test +#[0-9]+: / {
    id = $0
    sub(/^[^#]*#/, "", id)
    id += 0
    inner = cmocka_pass[id] + cmocka_fail[id] + cmocka_skip[id]
    pass += cmocka_pass[id]
    fail += cmocka_fail[id]
    skip += cmocka_skip[id]
    if ($0 ~ /   Passed +[0-9.]+ sec$/)
        pass += inner == 0
    else if ($0 ~ /\*\*\*(Skipped|Not Run \(Disabled\))/)
        skip++
    else
        fail += cmocka_fail[id] == 0
    delete cmocka_pass[id]
    delete cmocka_fail[id]
    delete cmocka_skip[id]
}

/^ok( |$)/ { if ($0 ~ /# (SKIP|TODO)/) tap_skip++; else tap_pass++ }
# "not ok - x.sh line 12": where a script gave up, not a test; its exit status says that already.
/^not ok - [^ ]+\.sh line [0-9]+/ { next }
/^(not ok|FAIL|FAILED)( |$)/ { if ($0 ~ /# (SKIP|TODO)/) tap_skip++; else tap_fail++ }

END {
    if (said) {
        print said_pass + 0, said_fail + 0, said_skip + 0
        exit
    }
    node_total = node["pass"] + node["fail"] + node["cancelled"] + node["skipped"] + node["todo"]
    if (node_total > 0) { # its TAP lines are the same tests
        pass += node["pass"]
        fail += node["fail"] + node["cancelled"]
        skip += node["skipped"] + node["todo"]
    } else {
        pass += tap_pass
        fail += tap_fail
        skip += tap_skip
    }
    if (pass + fail + skip > 0)
        print pass + 0, fail + 0, skip + 0
}
