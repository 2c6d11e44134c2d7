#!/usr/bin/env bash
# deploy/make-cert.sh DIR [NAME...]: a development certificate authority and a server certificate in DIR.
#
# Makes DIR/ca.pem (give it to clients and browsers), DIR/ca-key.pem, DIR/key.pem and DIR/cert.pem (full chain). The certificate is for localhost,
# 127.0.0.1, ::1 and the NAMEs: host names or addresses; without any, this machine's host name.
# Run again it does nothing, or issues a new certificate when a name is missing or less than a week is left. The key stays the same then, so that a
# gateway which reads key and certificate just at that moment still gets a pair.
# A DIR with a certificate that this script did not make (there is no ca-key.pem) is left alone: mount your real one there.
set -euo pipefail
umask 077

readonly server_days=397 # more is refused by some browsers
readonly ca_days=3650
readonly renew_days=7

fail()
{
    echo "make-cert: $*" >&2
    exit 1
}

new_key() # FILE
{
    openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1.new" 2>/dev/null ||
        openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1.new"
    mv -f "$1.new" "$1"
}

valid_for_days() # FILE DAYS
{
    openssl x509 -in "$1" -noout -checkend $(($2 * 86400)) >/dev/null 2>&1
}

key_matches() # CERTIFICATE KEY
{
    [[ $(openssl x509 -in "$1" -noout -pubkey 2>/dev/null) == "$(openssl pkey -in "$2" -pubout 2>/dev/null)" ]]
}

is_address()
{
    [[ $1 =~ ^[0-9]+(\.[0-9]+){3}$ || $1 == *:* ]]
}

subject_alt_names() # NAME...
{
    local name out=""
    for name in "$@"; do
        if is_address "$name"; then
            out+=",IP:$name"
        else
            out+=",DNS:$name"
        fi
    done
    echo "${out#,}"
}

covers_names() # CERTIFICATE NAME...
{
    local cert=$1 name
    shift
    for name in "$@"; do
        if is_address "$name"; then
            openssl x509 -in "$cert" -noout -checkip "$name" | grep -q 'does match'
        else
            openssl x509 -in "$cert" -noout -checkhost "$name" | grep -q 'does match'
        fi || return 1
    done
}

make_ca()
{
    echo "make-cert: new certificate authority $PWD/ca.pem" >&2
    new_key ca-key.pem
    openssl req -x509 -new -key ca-key.pem -sha256 -days "$ca_days" -out ca.pem.new \
        -subj "/O=Xindao development/CN=Xindao development CA $(hostname) $(date -u +%Y-%m-%d)" \
        -addext 'basicConstraints=critical,CA:TRUE,pathlen:0' -addext 'keyUsage=critical,keyCertSign,cRLSign'
    chmod 0644 ca.pem.new
    mv -f ca.pem.new ca.pem
}

make_server() # NAME...
{
    echo "make-cert: new certificate $PWD/cert.pem for $*" >&2
    if ! openssl pkey -in key.pem -noout 2>/dev/null; then
        new_key key.pem
    fi
    printf '%s\n' "subjectAltName=$(subject_alt_names "$@")" 'basicConstraints=critical,CA:FALSE' \
        'keyUsage=critical,digitalSignature' 'extendedKeyUsage=serverAuth' 'authorityKeyIdentifier=keyid' >extensions.new
    openssl req -new -key key.pem -sha256 -subj "/O=Xindao development/CN=$1" -out request.new
    openssl x509 -req -in request.new -CA ca.pem -CAkey ca-key.pem -sha256 -days "$server_days" \
        -set_serial "0x$(openssl rand -hex 16 | sed 's/^./5/')" -extfile extensions.new -out leaf.new 2>/dev/null
    cat leaf.new ca.pem >cert.pem.new
    chmod 0644 cert.pem.new
    rm -f extensions.new request.new leaf.new
    mv -f cert.pem.new cert.pem
}

main()
{
    [[ $# -ge 1 ]] || fail "usage: make-cert.sh DIR [NAME...]"
    command -v openssl >/dev/null || fail "no openssl command: deploy/install-deps.sh run"
    local dir=$1 names=(localhost 127.0.0.1 ::1)
    shift
    if [[ $# -gt 0 ]]; then names+=("$@"); else names+=("$(hostname)"); fi
    mapfile -t names < <(printf '%s\n' "${names[@]}" | awk 'NF && !seen[$0]++')

    [[ -d $dir ]] || (umask 022 && mkdir -p "$dir")
    cd "$dir"
    if [[ -e cert.pem && ! -e ca-key.pem ]]; then
        [[ -r cert.pem && -r key.pem ]] || fail "$PWD/cert.pem and key.pem must be readable by user $(id -u)"
        valid_for_days cert.pem 0 || fail "$PWD/cert.pem has expired; it is not ours to renew"
        exit 0
    fi
    [[ -w . ]] || fail "$PWD is not writable by user $(id -u), and has no certificate"
    exec 9>.lock
    flock -w 30 9 || fail "$PWD is locked by another make-cert"

    # A certificate must not outlive its authority: both are replaced together.
    if ! valid_for_days ca.pem $((server_days + renew_days)) || ! key_matches ca.pem ca-key.pem; then
        make_ca
    fi
    if ! valid_for_days cert.pem "$renew_days" || ! key_matches cert.pem key.pem ||
        ! openssl verify -CAfile ca.pem cert.pem >/dev/null 2>&1 || ! covers_names cert.pem "${names[@]}"; then
        make_server "${names[@]}"
    fi
    chmod 0600 key.pem ca-key.pem
}

main "$@"
