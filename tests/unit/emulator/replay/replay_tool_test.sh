#!/bin/bash
# Replays as users of the tool see them.
#
# Arguments: the tool, docs/captures.md, captures/echo_ftdi_tcp.pcap, more captures.
set -u
tool=$PWD/$1
docs=$PWD/$2
shift 2
originals=("${@/#/$PWD/}")
cd "$TEST_TMPDIR" || exit 1
mkdir -p captures
cp "${originals[@]}" captures
capture=captures/echo_ftdi_tcp.pcap
failures=0

fail() {
    echo "FAILED: $*" >&2
    failures=$((failures + 1))
}

# expect STATUS LINE ARGUMENT...: nothing on standard output, LINE (a pattern) on standard error.
expect() {
    local status=$1 line=$2 output error got
    shift 2
    output=$("$tool" "$@" 2>expected_error)
    got=$?
    error=$(cat expected_error)
    [ "$got" -eq "$status" ] || fail "$*: exit status $got instead of $status"
    [ -z "$output" ] || fail "$*: unexpected output: $output"
    # shellcheck disable=SC2053  # a pattern
    [[ $error == $line ]] || fail "$*: \"$error\" is not \"$line\""
}

# What the tool is told.
name=usbip-emulator
help="; $name --help shows the options"
expect 2 "$name: --replay fast: not gated, strict, timed, free or step$help" --replay fast "$capture"
expect 2 "$name: --speed 0: not a number from 0.001 to 1000000$help" --speed 0 "$capture"
expect 2 "$name: --speed nan: not a number from 0.001 to 1000000$help" --speed nan "$capture"
expect 2 "$name: --at-end stop: not hold, loop, stall or disconnect$help" --at-end stop "$capture"
expect 2 "$name: --match some: not exact, setup or any$help" --match some "$capture"
expect 2 "$name: --errors no: not replay or skip$help" --errors no "$capture"
expect 2 "$name: --at-import wait: not restart or continue$help" --at-import wait "$capture"
expect 2 "$name: --device 1-1: neither BUS.DEV in decimal nor VID:PID in hexadecimal$help" \
    --device 1-1 "$capture"
name='usbip-emulator replay-check'
help="; $name --help shows the options"
expect 2 "$name: no FILE given$help" replay-check
expect 2 "$name: --replay step: not gated, strict, timed or free$help" \
    replay-check --replay step "$capture"
expect 2 "$name: --errors no: not replay or skip$help" replay-check --errors no "$capture"

# Files that are no good: one line, and no server.
head -c 3000 "$capture" >cut.pcap
head -c 24 "$capture" >empty.pcap
for file in cut.pcap empty.pcap; do
    expect 1 "usbip-emulator: $file: *" --listen 127.0.0.1:0 "$file"
    expect 1 "$name: $file: *" replay-check "$file"
    [ "$(wc -l <expected_error)" -eq 1 ] || fail "$file: $(cat expected_error)"
done
expect 1 "usbip-emulator: $capture: *1.9*" --listen 127.0.0.1:0 --device 1.9 "$capture"

# The project's captures agree with themselves, in every order.
output=$("$tool" replay-check "$capture") || fail "replay-check $capture: $output"
[[ $(cat "$docs") == *"$output"* ]] || fail "docs/captures.md does not show: $output"
for mode in gated strict timed free; do
    "$tool" replay-check --replay "$mode" captures/*.pcap >output || fail "$mode: $(cat output)"
    [ "$(grep -c ' 0 divergences' output)" -eq ${#originals[@]} ] || fail "$mode: $(cat output)"
done

# The first IN transfer with data fails now: its data come with the error, or not at all.
python3 - captures/linux_cdc_acm.pcap failed.pcap <<'PYTHON'
import struct, sys

data = bytearray(open(sys.argv[1], "rb").read())
at = 24
while at < len(data):
    size = struct.unpack_from("<I", data, at + 8)[0]
    record = at + 16
    if data[record + 8] == ord("C") and data[record + 9] == 3 and data[record + 10] & 0x80 and \
            size > 64:
        struct.pack_into("<i", data, record + 28, -71)
        break
    at = record + size
open(sys.argv[2], "wb").write(data)
PYTHON
[[ $("$tool" replay-check failed.pcap) == *" 2000 bytes in, 2000 bytes out, 0 divergences, 0 "* ]] ||
    fail "an error: $("$tool" replay-check failed.pcap 2>&1)"
output=$("$tool" replay-check --errors skip failed.pcap) || fail "--errors skip: $output"
[[ $output != *" 2000 bytes in"* ]] || fail "--errors skip: $output"

# The device's line names the chip.
mkfifo output.fifo
"$tool" --listen 127.0.0.1:0 "$capture" >output.fifo &
read -r line <output.fifo
kill $!
wait $!
[ "$line" = "1-1  0403:6001  \"Echo\"  replay of FT232R  $capture" ] || fail "the device: $line"
[[ $(cat "$docs") == *"$line"* ]] || fail "docs/captures.md does not show: $line"

[ $failures -eq 0 ]
