#!/bin/bash
# Wrong usage of "usbip-conformance client", and commands that are no clients: each is told in one line or
# one case, within its time, with the right exit status.
set -u

suite=$1
failed=0

# expect STATUS TEXT ARGUMENT... : the text is in what is printed.
expect() {
    local status=$1 text=$2 output got
    shift 2
    output=$("$suite" client "$@" 2>&1)
    got=$?
    if [ $got -ne "$status" ] || ! grep -qF -- "$text" <<<"$output"; then
        echo "FAILED: client $*"
        echo "  status $got where $status is right, and '$text' is to be in:"
        echo "$output"
        failed=1
    fi
}

expect 0 "usage: usbip-conformance client" --help
expect 0 "C062 close-hygiene" --list F
expect 2 "C999 is no case" C999
expect 2 "wants a COMMAND" C001 --
expect 2 "is not HOST:PORT" --listen here
expect 2 "is not a number of jobs" --jobs 0 -- true
expect 2 "needs a port for each case" --jobs 2 --listen 127.0.0.1:1 -- true
expect 2 "needs a COMMAND" --jobs 2
expect 2 "missing.txt: No such file" --expect missing -- true
echo "S001 ok" >"${TEST_TMPDIR:-/tmp}/foreign.txt"
expect 2 "S001 has a line in the table, and is no case" --expect "${TEST_TMPDIR:-/tmp}/foreign.txt" -- true
expect 1 "the client does not ask for the device" C001 -- false
# What it says must not reach the terminal as it is.
expect 1 "the client says: ??[31mred" C001 -- sh -c 'printf "\\377\\033[31mred\\n" >&2'
expect 2 "/missing/program is no program" C001 -- /missing/program
expect 2 "missing-program is no program" C001 -- missing-program
expect 2 "cannot listen on 192.0.2.1 port 0" --listen 192.0.2.1:0 C001 -- true
# One that neither asks nor ends, nor heeds SIGTERM, nor leaves its children behind.
expect 1 "the client does not ask for the device" --timeout-ms 200 C001 -- \
    sh -c 'trap "" TERM; sleep 1000; sleep 1000'
expect 1 "does not end" --timeout-ms 200 C014 -- sh -c 'sleep 1000 | sleep 1000'

# Two imports at a time: the second is refused with 8 bytes and the end, whatever a case does to the answer
# (C009 cuts it to 319 bytes).
second=${TEST_TMPDIR:-/tmp}/second_import.$$
# shellcheck disable=SC2059,SC2317  # the format is the request; bash calls it
second_import() {
    exec 3<>"/dev/tcp/${USBIP_ADDRESS%:*}/${USBIP_ADDRESS##*:}" 4<>"/dev/tcp/${USBIP_ADDRESS%:*}/${USBIP_ADDRESS##*:}"
    local request='\x01\x11\x80\x03\0\0\0\0001-1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0'
    printf "$request" >&3
    head -c 108 <&3 >/dev/null # in full: the device is given away
    printf "$request" >&4
    wc -c <&4 >"$second"
}
export -f second_import
export second
"$suite" client --timeout-ms 500 --patience-ms 1000 C009 -- bash -c second_import >"$second.report"
if [ "$(cat "$second")" != 8 ]; then
    echo "FAILED: a second import was answered with $(cat "$second") bytes"
    failed=1
fi
rm -f "$second" "$second.report"

exit $failed
