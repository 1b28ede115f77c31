#!/bin/bash
# The conformance cases, hostile ones among them, through usbip-record: the server must look as if
# nobody were in between.
#
# Arguments: usbip-emulator, usbip-record, usbip-conformance, device.lua, second.lua.
set -u
emulator=$PWD/$1 record=$PWD/$2 conformance=$PWD/$3 device=$PWD/$4 second=$PWD/$5
cd "$TEST_TMPDIR" || exit 1

# start NAME COMMAND...: runs it in the background until it says where it listens, as $address.
start() {
    local name=$1 line
    shift
    mkfifo "$name.out"
    "$@" >"$name.out" 2>"$name.err" &
    exec {output}<"$name.out"
    while read -r -t 60 -u "$output" line; do
        [[ $line == "listening on "* ]] && address=${line#listening on } && return
    done
    echo "FAILED: $*: it does not listen: $(cat "$name.err")" >&2
    exit 1
}

start emulator "$emulator" --listen 127.0.0.1:0 "$device" "$second"
emulator_pid=$!
start relay "$record" --listen 127.0.0.1:0 --upstream "$address" relay.pcap
relay_pid=$!
"$conformance" --profile core,hostile "$address"
status=$?
# What hostile clients send cannot all be recorded: usbip-record says so, and nothing worse.
kill "$relay_pid" "$emulator_pid"
wait "$relay_pid"
relay_status=$?
wait "$emulator_pid"
cat relay.err
[ $relay_status -eq 1 ] || echo "FAILED: usbip-record ended with $relay_status" >&2
if grep -v '; the rest of this connection is not recorded$' relay.err; then
    echo "FAILED: this is said by usbip-record, too" >&2
    status=1
fi
[ $status -eq 0 ] && [ $relay_status -eq 1 ]
