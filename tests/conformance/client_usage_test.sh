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
expect 1 "the client does not ask for the device" C001 -- false
expect 1 "cannot start /missing/program" C001 -- /missing/program
# One that neither asks nor ends, nor heeds SIGTERM, nor leaves its children behind.
expect 1 "the client does not ask for the device" --timeout-ms 200 C001 -- \
    sh -c 'trap "" TERM; sleep 1000; sleep 1000'
expect 1 "does not end" --timeout-ms 200 C014 -- sh -c 'sleep 1000 | sleep 1000'

exit $failed
