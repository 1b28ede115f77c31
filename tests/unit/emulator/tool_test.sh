#!/bin/bash
# usbip-emulator as its user sees it: lines, files and exit statuses.
#
# Arguments: the tool, and the scripts of the repository.
set -u
tool=$PWD/$1
shift
scripts=()
for script; do scripts+=("$PWD/$script"); done
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

# start ARGUMENT...: runs the tool in the background until it says that it listens. Sets $pid, and
# $lines to what it has said.
start() {
    rm -f out
    mkfifo out
    "$tool" "$@" >out 2>error &
    pid=$!
    exec 3<out
    lines=
    local line
    while read -r -t 60 line <&3; do
        lines+=$line$'\n'
        [[ $line == listening* ]] && return
    done
    fail "$*: it does not listen: $lines$(cat error)"
}

# stop SIGNAL: ends it with the signal; it must exit with 0 and without a word.
stop() {
    kill -s "$1" "$pid"
    wait "$pid"
    local got=$?
    [ $got -eq 0 ] || fail "exit status $got after SIG$1: $(cat error)"
    [ ! -s error ] || fail "after SIG$1: $(cat error)"
    exec 3<&-
}

help='; usbip-emulator --help shows the options'
echo "device { type = 'cdc_acm', product = 'A', idProduct = 0x1234 }" >good.lua
printf 'device { type = "cdc_acm" }\n\nfunction on_data(bytes) write(bytes)\n' >syntax.lua
echo "device { type = 'raw' }" >descriptor.lua
: >empty.lua

# Wrong usage.
expect 2 "usbip-emulator: no DEVICE given$help"
expect 2 "usbip-emulator: --fast is not an option, or takes no value$help" --fast good.lua
expect 2 "usbip-emulator: -x is not an option, or takes no value$help" -x good.lua
expect 2 "usbip-emulator: --listen needs a value$help" good.lua --listen
for seed in x -1 1x 18446744073709551616 ''; do
    expect 2 "usbip-emulator: --seed $seed: not a number from 0 to 2^64 - 1$help" --seed "$seed" good.lua
done
expect 2 "usbip-emulator: --personality windows: there is none of that name, but strict, linux, \
usbipd-win, jiegec, usbip-python$help" --personality windows good.lua
for copies in 0 -1 x 1x 4097 ''; do
    expect 2 "usbip-emulator: --copies $copies: not a number from 1 to 4096$help" \
        --copies "$copies" good.lua
done

# Scripts that are not good.
expect 1 'usbip-emulator: cannot open missing.lua: No such file or directory' good.lua missing.lua
expect 1 'usbip-emulator: cannot read .: Is a directory' .
expect 1 "usbip-emulator: syntax.lua:4: 'end' expected (to close 'function' at line 3) near <eof>" \
    syntax.lua
expect 1 'usbip-emulator: empty.lua: no device { ... } in it, which says what the device is' empty.lua
expect 1 'usbip-emulator: descriptor.lua: a raw device needs a configuration descriptor' descriptor.lua

# Addresses and files that are not good. Nothing is left behind, also not by an earlier run.
echo 1 >port
expect 2 'usbip-emulator: --listen here: not HOST:PORT or *' \
    --listen here --port-file port good.lua
expect 1 'usbip-emulator: cannot listen on 203.0.113.1:0: address not available; choose another *' \
    --listen 203.0.113.1:0 --port-file port good.lua
expect 1 'usbip-emulator: cannot write the port file missing/port: No such file or directory' \
    --listen 127.0.0.1:0 --port-file missing/port good.lua
expect 1 'usbip-emulator: cannot write missing/file: No such file or directory' \
    --listen 127.0.0.1:0 --record missing/file --port-file port good.lua
[ ! -e port ] || fail "a port file without a port"

[ "$("$tool" --help | head -1)" = "usage: usbip-emulator [OPTION]... DEVICE..." ] || fail "--help"
for name in strict linux usbipd-win jiegec usbip-python; do
    [[ $("$tool" --help) == *"$name"* ]] || fail "--help does not name $name"
done
[[ $("$tool" --help) == *--no-io-uring* ]] || fail "--help does not name --no-io-uring"
[[ $("$tool" --version) == "usbip-emulator "[0-9]* ]] || fail "--version"

# It serves, and says what.
start --listen 127.0.0.1:0 --port-file port --seed 42 good.lua good.lua
port=$(cat port)
[ "$lines" = "1-1  1209:1234  \"A\"  cdc_acm  good.lua
1-2  1209:1234  \"A\"  cdc_acm  good.lua
seed 42
listening on 127.0.0.1:$port
" ] || fail "said: $lines"
[ "$(echo port*)" = port ] || fail "left behind: $(echo port*)"
exec 4<>"/dev/tcp/127.0.0.1/$port" || fail "port $port does not accept connections"
# A list of devices: version, request, status.
printf '\x01\x11\x80\x05\0\0\0\0' >&4
[ "$(head -c 12 <&4 | od -An -tx1 | tr -d ' \n')" = 011100050000000000000002 ] || fail "device list"
expect 1 "usbip-emulator: cannot listen on 127.0.0.1:$port: address already in use; choose another *" \
    --listen "127.0.0.1:$port" good.lua
stop TERM
exec 4>&-

# As jiegec/usbip it answers a second request on one connection, 12 + 312 + 2 * 4 bytes each time.
start --listen 127.0.0.1:0 --port-file port --personality jiegec good.lua
exec 4<>"/dev/tcp/127.0.0.1/$(cat port)" || fail "port $(cat port) does not accept connections"
printf '\x01\x11\x80\x05\0\0\0\0\x01\x11\x80\x05\0\0\0\0' >&4
[ "$(head -c 664 <&4 | wc -c)" = 664 ] || fail "two device lists on one connection"
stop TERM
exec 4>&-

# Without io_uring it serves too.
start --listen 127.0.0.1:0 --port-file port --no-io-uring good.lua
exec 4<>"/dev/tcp/127.0.0.1/$(cat port)" || fail "port $(cat port) does not accept connections"
printf '\x01\x11\x80\x05\0\0\0\0' >&4
[ "$(head -c 332 <&4 | wc -c)" = 332 ] || fail "a device list without io_uring"
stop TERM
exec 4>&-
expect 2 "usbip-emulator: --no-io-uring*$help" --no-io-uring=1 good.lua

# Copies, in the order of the command line; devices beyond the limit.
echo "device { type = 'ftdi', product = 'B' }" >other.lua
start --listen 127.0.0.1:0 --copies 2 good.lua other.lua
[[ $lines == '1-1  1209:1234  "A"  cdc_acm  good.lua
1-2  1209:1234  "A"  cdc_acm  good.lua
1-3  0403:6001  "B"  ftdi  other.lua
1-4  0403:6001  "B"  ftdi  other.lua'$'\n'* ]] || fail "said: $lines"
stop TERM
expect 1 'usbip-emulator: other.lua: no room for it; at most 4096 devices are possible' \
    --copies 4096 good.lua other.lua

# What a script says cannot talk to the terminal.
echo "device { type = 'cdc_acm', product = 'a\\27[31mb\\nc' }" >terminal.lua
start --listen 127.0.0.1:0 terminal.lua
[[ $lines == '1-1  1209:0001  "a?[31mb?c"  cdc_acm  terminal.lua'$'\n'* ]] || fail "said: $lines"
stop TERM
echo "device { type = 'a\\27[31mb' }" >terminal.lua
expect 1 'usbip-emulator: terminal.lua:1: device: type "a?[[]31mb" is unknown; *' terminal.lua

# Without --seed it differs each time, and is told.
start --listen 127.0.0.1:0 good.lua
first=$lines
stop INT
start --listen 127.0.0.1:0 good.lua
[ "$(grep seed <<<"$first")" != "$(grep seed <<<"$lines")" ] || fail "the same seed: $lines"
stop INT

# Every script of the repository.
for script in "${scripts[@]}"; do
    start --listen 127.0.0.1:0 --virtual-time -v "$script"
    stop TERM
done

[ $failures -eq 0 ] && echo "passed"
exit $((failures > 0))
