#!/bin/bash
# Faults on the command line and over the control socket, as users of usbip-emulator see them.
#
# Arguments: the tool, and the client tool.
set -u
tool=$PWD/$1
serial=$PWD/$2
cd "$TEST_TMPDIR" || exit 1
failures=0

fail() {
    echo "FAILED: $*" >&2
    failures=$((failures + 1))
}

# expect STATUS OUTPUT ERROR ARGUMENT...: the tool ends with STATUS, and what it prints matches the
# patterns.
expect() {
    local status=$1 wanted=$2 wanted_error=$3 output error
    shift 3
    output=$("$tool" "$@" 2>expected_error)
    local got=$?
    error=$(cat expected_error)
    [ "$got" -eq "$status" ] || fail "$*: exit status $got instead of $status"
    # shellcheck disable=SC2053  # a pattern
    [[ $output == $wanted ]] || fail "$*: \"$output\" is not \"$wanted\""
    # shellcheck disable=SC2053  # a pattern
    [[ $error == $wanted_error ]] || fail "$*: \"$error\" is not \"$wanted_error\""
}

# start ARGUMENT...: runs the tool in the background until it says that it listens. Sets $pid and $port.
start() {
    rm -f out
    mkfifo out
    "$tool" --listen 127.0.0.1:0 --port-file port "$@" >out 2>error &
    pid=$!
    exec 3<out
    local line
    while read -r -t 60 line <&3; do
        [[ $line == listening* ]] && port=$(cat port) && return
    done
    fail "$*: it does not listen: $(cat error)"
}

# ended: it ends by itself, with 0, and leaves no socket.
ended() {
    wait "$pid"
    local got=$?
    [ $got -eq 0 ] || fail "exit status $got: $(cat error)"
    [ ! -e s.sock ] || fail "the control socket is still there"
    exec 3<&-
}

usage='; usbip-emulator ctl --help shows the requests'
echo "device { type = 'cdc_acm', product = 'A' } function on_data(b) write(b) end" >echo.lua
printf '%s\n' "device { type = 'cdc_acm', product = 'B\\27[31m' } fault { name = 'duplicate', count = 1 }" >fault.lua

# Wrong usage.
expect 2 '' "usbip-emulator ctl: FILE.sock and REQUEST are needed$usage" ctl
expect 2 '' "usbip-emulator ctl: FILE.sock and REQUEST are needed$usage" ctl s.sock
expect 2 '' "usbip-emulator ctl: there is no request \"lst\"$usage" ctl s.sock lst
expect 2 '' "usbip-emulator ctl: plug needs an argument$usage" ctl s.sock plug
expect 2 '' "usbip-emulator ctl: 1-2 is an argument too many$usage" ctl s.sock plug 1-1 1-2
expect 2 '' "usbip-emulator ctl: x is not a number$usage" ctl s.sock unplug 1-1 x
expect 2 '' "usbip-emulator ctl: --jason is not an option$usage" ctl --jason s.sock list
expect 1 '' 'usbip-emulator ctl: s.sock: no emulator can be reached there: No such file or directory' \
    ctl s.sock list
expect 0 'usage: usbip-emulator ctl *' '' ctl --help
expect 2 '' 'usbip-emulator: --fault x: there is no fault "x"; there are: *' --fault x echo.lua
expect 2 '' 'usbip-emulator: --fault delay:ms=x: delay: ms must be a number *' --fault delay:ms=x echo.lua
expect 1 '' 'usbip-emulator: --fault: there is no device "1-2"; the busids are 1-1 to 1-1' \
    --fault delay:device=1-2 echo.lua
expect 1 '' 'usbip-emulator: echo.lua exists and is not a socket; *' --control echo.lua echo.lua
expect 1 '' 'usbip-emulator: a control socket needs a path, not ""' --control '' echo.lua
expect 1 '' 'usbip-emulator: cannot make the control socket no/s.sock: its folder does not exist' \
    --control no/s.sock echo.lua
[ -s echo.lua ] || fail "the script was replaced by a socket"
many=()
for _ in $(seq 65); do many+=(--fault duplicate); done
expect 2 '' 'usbip-emulator: --fault duplicate: that is one too many; *' "${many[@]}" echo.lua
# Every fault is explained.
"$tool" --help-faults >faults || fail "--help-faults"
for fault in fragment delay stop_reading close reset op_version op_code op_status op_busid status length \
    zero_data duplicate reorder swallow_ret_submit swallow_ret_unlink late_reply disconnect; do
    grep -q "^$fault: " faults || fail "--help-faults does not explain $fault"
done

# All requests.
start --control s.sock --fault delay:ms=1 echo.lua fault.lua
expect 0 $'1-1  1209:0001  "A"  cdc_acm  free\n1-2  1209:0001  "B?[31m"  cdc_acm  free' '' ctl s.sock list
expect 0 'fault 1  delay:ms=1  fired 0
fault 2  duplicate:count=1  1-2  fired 0' '' ctl s.sock fault-list
expect 0 3 '' ctl s.sock fault-add status:endpoint=0x81,value=-71,device=1-2
expect 1 '' 'usbip-emulator ctl: status: value must be a number *' ctl s.sock fault-add status:value=x
expect 0 '{"ok": true, "faults": [[]{"fault": 1, *' '' ctl --json s.sock fault-list
expect 1 '{"ok": false, "error": "there is no fault 9"}' '' ctl --json s.sock fault-remove 9
expect 0 '' '' ctl s.sock fault-remove 3
expect 0 '' '' ctl s.sock unplug 1-2
expect 0 $'1-1 *  free\n1-2 *  unplugged' '' ctl s.sock list
expect 0 '' '' ctl s.sock plug 1-2
expect 0 $'1-1 *  free\n1-2 *  free' '' ctl s.sock list
"$tool" ctl s.sock list >/dev/full 2>full && fail "a list that cannot be written is no error"
[[ $(cat full) == *"standard output: cannot be written: No space left on device" ]] || fail "$(cat full)"
expect 1 '' 'usbip-emulator ctl: there is no device "1-9"' ctl s.sock plug 1-9
expect 1 '' 'usbip-emulator: s.sock is the control socket of another emulator that runs; *' \
    --listen 127.0.0.1:0 --control s.sock echo.lua
# What a client does is counted, and so is what the faults do.
answer=$("$serial" --host "127.0.0.1:$port" send --read 1-1 'hello\n' 2>&1) || fail "send: $answer"
[ "$answer" = hello ] || fail "send: $answer"
expect 0 '1-1  urbs [1-9]*  bytes_in [1-9]*  bytes_out [1-9]*
fault 1  delay:ms=1  fired [1-9]*' '' ctl s.sock counters 1-1
expect 0 '' '' ctl s.sock quit
ended

# A client gets through a link that is slow and comes in crumbs.
start --control s.sock --seed 3 --fault fragment:size=1 --fault delay:ms=2,jitter=5,chance=50 echo.lua
answer=$("$serial" --host "127.0.0.1:$port" send --read 1-1 'hello\n' 2>&1)
[ "$answer" = hello ] || fail "send: $answer"
expect 0 '' '' ctl s.sock quit
ended

# A socket that was left behind by one that was killed is replaced; the signal ends it as ever.
start --control s.sock echo.lua
disown "$pid"
kill -KILL "$pid"
while kill -0 "$pid" 2>error; do :; done
[ -S s.sock ] || fail "no socket is left behind"
expect 1 '' 'usbip-emulator ctl: s.sock: no emulator can be reached there: Connection refused' ctl s.sock list
start --control s.sock echo.lua
expect 0 '1-1 *' '' ctl s.sock list
kill -TERM "$pid"
ended

[ $failures -eq 0 ] && echo "passed"
exit $((failures > 0))
