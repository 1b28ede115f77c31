#!/bin/bash
# usbip-record as its user sees it: lines, files and exit statuses.
#
# Arguments: the tool.
set -u
tool=$PWD/$1
cd "$TEST_TMPDIR" || exit 1
failures=0

fail() {
    echo "FAILED: $*" >&2
    failures=$((failures + 1))
}

# expect STATUS LINE ARGUMENT...: the tool ends with STATUS, nothing on its standard output, and LINE
# (a pattern) as the only line on its standard error.
expect() {
    local status=$1 line=$2 output error
    shift 2
    output=$("$tool" "$@" 2>expected_error)
    local got=$?
    error=$(cat expected_error)
    [ "$got" -eq "$status" ] || fail "$*: exit status $got instead of $status"
    [ -z "$output" ] || fail "$*: unexpected output: $output"
    # shellcheck disable=SC2053  # a pattern
    [[ $error == $line ]] || fail "$*: \"$error\" is not \"$line\""
}

help='; usbip-record --help shows the options'
server=(--upstream 127.0.0.1:1 --listen 127.0.0.1:0)
expect 2 "usbip-record: no --upstream HOST:PORT given$help" file
expect 2 "usbip-record: no FILE given$help" "${server[@]}"
expect 2 "usbip-record: one FILE is enough, b is too many$help" "${server[@]}" a b
expect 2 "usbip-record: --fast is not an option, or takes no value$help" --fast "${server[@]}" a
expect 2 "usbip-record: --upstream needs a value$help" a --upstream
expect 2 "usbip-record: --upstream here: not HOST:PORT or [[]IPv6]:PORT$help" --upstream here a
expect 2 "usbip-record: --listen ::1:1: not HOST:PORT or [[]IPv6]:PORT$help" --listen ::1:1 a
expect 1 'usbip-record: cannot write missing/a: No such file or directory' "${server[@]}" missing/a
expect 1 'usbip-record: cannot write .: Is a directory' "${server[@]}" .
expect 1 'usbip-record: cannot write /dev/full: No space left on device' "${server[@]}" /dev/full
expect 1 'usbip-record: cannot listen on 203.0.113.1:0: address not available; choose another *' \
    "${server[@]}" --listen 203.0.113.1:0 a
expect 1 'usbip-record: cannot find the server host.invalid:1: *' \
    --listen 127.0.0.1:0 --upstream host.invalid:1 a

[ "$("$tool" --help | head -1)" = "usage: usbip-record [OPTION]... --upstream HOST:PORT FILE" ] ||
    fail "--help"
[[ $("$tool" --version) == "usbip-record "[0-9]* ]] || fail "--version"

# It listens until it is told to end, and then leaves a capture without records.
for signal in INT TERM; do
    rm -f out
    mkfifo out
    "$tool" "${server[@]}" file.pcap >out 2>error &
    pid=$!
    read -r -t 60 line <out
    [[ $line == "listening on 127.0.0.1:"[1-9]* ]] || fail "said: $line"
    # Another one at the same address leaves the file alone.
    before=$(stat -c %y file.pcap)
    expect 1 'usbip-record: cannot listen on *: address already in use; choose another *' \
        --upstream 127.0.0.1:1 --listen "${line#listening on }" file.pcap
    [ "$(stat -c %y file.pcap)" = "$before" ] || fail "file.pcap has changed"
    kill -s $signal "$pid"
    wait "$pid"
    got=$?
    [ $got -eq 0 ] || fail "exit status $got after SIG$signal"
    [ ! -s error ] || fail "after SIG$signal: $(cat error)"
    [ "$(wc -c <file.pcap)" -eq 24 ] || fail "file.pcap has $(wc -c <file.pcap) bytes"
done

[ $failures -eq 0 ] && echo "passed"
exit $((failures > 0))
