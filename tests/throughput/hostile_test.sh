#!/bin/bash
# Servers that misbehave: each ends the bench with one line on standard error that says how, and a status.
# 1: an answer was wrong or is missing. 2: nothing could be measured.
#
#     hostile_test.sh BENCH EMULATOR SCRIPT
set -uo pipefail

bench=$1
emulator=$2
script=$3
patience=60 # seconds; the bench has its own, of 10 for each reply
work=$(mktemp -d "${TEST_TMPDIR:-/tmp}/hostile.XXXXXX")
trap 'rm -rf "$work"' EXIT
jobs=0

# run NUMBER STATUS TEXT ARGUMENT... : the bench, to the server whose port is in a file.
run() {
    local number=$1 expected=$2 text=$3 status
    shift 3
    timeout $patience "$bench" "127.0.0.1:$(cat "$work/$number.port")" --runs 1 --seconds 0.05 --size 64 \
        --depth 8 "$@" >"$work/$number.out" 2>"$work/$number.error"
    status=$?
    if [ $status -ne "$expected" ] || [ "$(wc -l <"$work/$number.error")" -ne 1 ] ||
        ! grep -q -- "$text" "$work/$number.error"; then
        {
            echo "FAILED: status $status instead of $expected, with a line that has: $text"
            cat "$work/$number.error"
        } >"$work/$number.failed"
    fi
}

# server NUMBER COMMAND... : starts it, and waits until its port is in the file.
server() {
    local number=$1
    shift
    "$@" >"$work/$number.log" 2>&1 &
    server_pid=$!
    until [ -s "$work/$number.port" ]; do
        kill -0 $server_pid 2>/dev/null || {
            { echo "FAILED: the server has ended:" && cat "$work/$number.log"; } >"$work/$number.failed"
            return 1
        }
        sleep 0.02
    done
}

with_fault() {
    local number=$1 fault=$2
    shift 2
    server "$number" "$emulator" --listen 127.0.0.1:0 --port-file "$work/$number.port" --fault "$fault" \
        "$script" || return
    run "$number" "$@"
    kill $server_pid
    wait $server_pid
    touch "$work/$number.done"
}

# What no USB/IP server does.
with_stranger() {
    local number=$1 kind=$2
    shift 2
    server "$number" python3 -c '
import os, socket, sys
server = socket.create_server(("127.0.0.1", 0))
with open(sys.argv[1] + ".new", "w") as file:
    print(server.getsockname()[1], file=file)
os.rename(sys.argv[1] + ".new", sys.argv[1])
held = []
while True:
    client = server.accept()[0]
    if sys.argv[2] != "closes":
        held.append(client)
    if sys.argv[2] == "http":
        client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    if sys.argv[2] == "many":
        client.sendall(bytes.fromhex("0111000500000000ffffffff") + bytes(4096))
    del client
' "$work/$number.port" "$kind" || return
    run "$number" "$@"
    kill $server_pid
    wait $server_pid
    touch "$work/$number.done"
}

# All at once, since some take the bench's whole patience.
fault() {
    jobs=$((jobs + 1))
    with_fault $jobs "$@" &
}
stranger() {
    jobs=$((jobs + 1))
    with_stranger $jobs "$@" &
}

# Before there is a device.
stranger closes 2 'server closed the connection\|connection lost'
stranger http 2 'is that a USB/IP server'
stranger many 2 'announces 4294967295 devices'
stranger silent 2 'no answer within 10000 ms'
fault op_version:reply=devlist 2 'version 0x0110'
fault close:after=4 2 'OP_REP_DEVLIST was not complete'
fault op_status:reply=devlist 2 'ST_ERROR'
# Import and set-up.
fault op_status:reply=import 2 'import refused: .*ST_ERROR'
fault op_status:reply=import,value=2 2 'import refused: .*ST_DEV_BUSY'
fault op_version:reply=import 2 'does not speak USB/IP 1.1.1'
fault op_busid 2 '9-9 instead'
fault status:endpoint=0 2 'of the set-up: EPROTO'
fault swallow_ret_submit 2 'owes a reply and is silent'
# Wrong replies.
fault status:endpoint=0,after=9 1 'IN of 18 bytes. ended with EPROTO' --test pipeline
fault zero_data:endpoint=0,after=20 1 'byte 0 of the descriptor is 0x00 instead of 0x12' --test pipeline
fault status:endpoint=0x81,after=9 1 'ended with EPROTO' --test echo
fault zero_data:endpoint=0x81,after=9 1 'of the stream is 0x00 instead of' --test echo
fault zero_data:endpoint=0x81,after=9 1 'of the stream is 0x00 instead of' --test serial
fault length:endpoint=0x81,after=9,by=100000 1 'moved .* bytes instead of 512' --test echo
fault length:endpoint=1,after=9 1 'moved 65 bytes instead of 64' --test echo
fault reorder:endpoint=0x81,after=9 1 'of the stream is 0x.. instead of' --test echo
fault duplicate:after=30 1 'answers none of the URBs' --test echo
# Replies that do not come, and links that end: soon behind the beginning, for on a busy machine a run may not get far.
# How an end looks depends on who was quicker.
lost='closed the connection\|Connection reset by peer\|Broken pipe'
fault swallow_ret_submit:endpoint=0x81,after=9 1 'silent' --test echo
fault swallow_ret_submit:endpoint=0x81,after=9 1 'bytes did not come back' --test serial
fault swallow_ret_submit:endpoint=0x81 1 'bytes do not come back' --test serial
fault stop_reading:after=2000 1 'silent' --test pipeline
fault close:after=2000 1 'the server has closed the connection' --test pipeline
fault close:after=3000 1 'the server closed the connection' --test serial
fault reset:after=2000 1 "$lost" --test echo
fault disconnect:on=bytes,after=1000 1 "$lost" --test echo
wait

cat "$work"/*.failed 2>/dev/null && exit 1
[ "$(find "$work" -name '*.done' | wc -l)" -eq $jobs ] || {
    echo "FAILED: not all servers were tried"
    exit 1
}
