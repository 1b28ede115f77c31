#!/bin/bash
# usbip-emulator inspect as its user sees it.
#
# Arguments: the tool, docs/captures.md, captures/echo_ftdi_tcp.pcap, captures/linux_ftdi_sio_ft2232h.pcap.
set -u
tool=$PWD/$1
docs=$PWD/$2
capture=$PWD/$3
two_ports=$PWD/$4
cd "$TEST_TMPDIR" || exit 1
mkdir -p captures
cp "$capture" captures/echo_ftdi_tcp.pcap
capture=captures/echo_ftdi_tcp.pcap
failures=0

fail() {
    echo "FAILED: $*" >&2
    failures=$((failures + 1))
}

# expect STATUS LINE ARGUMENT...: nothing on standard output, LINE (a pattern) on standard error.
expect() {
    local status=$1 line=$2 output error
    shift 2
    output=$("$tool" inspect "$@" 2>expected_error)
    local got=$?
    error=$(cat expected_error)
    [ "$got" -eq "$status" ] || fail "$*: exit status $got instead of $status"
    [ -z "$output" ] || fail "$*: unexpected output: $output"
    # shellcheck disable=SC2053  # a pattern
    [[ $error == $line ]] || fail "$*: \"$error\" is not \"$line\""
}

name='usbip-emulator inspect'
help="; $name --help shows the options"
expect 2 "$name: no FILE given$help"
expect 2 "$name: $capture: only one FILE at a time$help" missing "$capture"
expect 2 "$name: --fast is not an option, or takes no value$help" --fast "$capture"
expect 2 "$name: --device needs a value$help" "$capture" --device
expect 2 "$name: --device 1-1: neither BUS.DEV in decimal nor VID:PID in hexadecimal$help" \
    --device 1-1 "$capture"
expect 1 "$name: missing: cannot be read: No such file or directory" missing
expect 1 "$name: $capture: no device 1.2 is in it; inspect without --device lists those that are" \
    --device 1.2 "$capture"
expect 1 "$name: missing: cannot be read: No such file or directory" --descriptors missing "$capture"
head -c 2000 "$capture" >cut.pcap
expect 1 "$name: cut.pcap: record [0-9]*: the file ends in the middle of it, *" cut.pcap
[[ $("$tool" inspect --help) == "usage: usbip-emulator inspect "* ]] || fail "--help"

# The documentation shows what is printed.
output=$("$tool" inspect "$capture") || fail "exit status $?"
[[ $(cat "$docs") == *"$ usbip-emulator inspect $capture
$output
"* ]] || fail "docs/captures.md does not show: $output"
for wish in 1.1 0403:6001; do
    [ "$("$tool" inspect --device $wish "$capture" | tail -n +4)" = \
        "$(echo "$output" | tail -n +4)" ] || fail "--device $wish"
done

# A chip with two ports: which interface is which.
ports=$("$tool" inspect "$two_ports") || fail "exit status $?"
[[ $ports == *'
device 1.1  0403:6010  FT2232H  '*'
    interface 0  class ff/ff/ff  "Echo"  port 1
      endpoint 0x81 IN   bulk       512 bytes
      endpoint 0x02 OUT  bulk       512 bytes
    interface 1  class ff/ff/ff  "Echo"  port 2
      endpoint 0x83 IN   bulk       512 bytes
      endpoint 0x04 OUT  bulk       512 bytes
'* ]] || fail "$two_ports: $ports"
[[ $("$tool" inspect --json "$two_ports") == *'"ports": 2,'* ]] || fail "--json: ports"

# The same chip, which the file alone does not tell: what --descriptors adds tells its ports, too.
python3 - bulk.pcap descriptors <<'PYTHON'
import struct, sys

with open(sys.argv[1], "wb") as file:
    file.write(struct.pack("<IHHiIII", 0xa1b2c3d4, 2, 4, 0, 0, 262144, 220))
    for number, (event, data) in enumerate((("S", b""), ("C", b"\x02\x60hello"))):
        record = struct.pack("<QBBBBHBBqiiII", 7, ord(event), 3, 0x81, 3, 1, 0x2d,
                             0 if data else 0x3c, 0, 0, 0, len(data), len(data)) + bytes(24) + data
        file.write(struct.pack("<IIII", 1, number, len(record), len(record)) + record)
port = "0904%02x0002ffffff00 0705%02x02000200 0705%02x02000200"
with open(sys.argv[2], "wb") as file:
    file.write(bytes.fromhex("12010002000000400304106000070000000109023700020100802d"))
    file.write(bytes.fromhex(port % (0, 0x81, 2) + port % (1, 0x83, 4)))
PYTHON
output_of_both=$("$tool" inspect --descriptors descriptors bulk.pcap) || fail "--descriptors"
[[ $output_of_both == *'  FT2232H  '*'  port 1'*'  port 2'* ]] || fail "ports: $output_of_both"
output_of_both=$("$tool" inspect --json --descriptors descriptors bulk.pcap) || fail "--descriptors"
[[ $output_of_both == *'"chip": "FT2232H"'*'"ports": 2,'* ]] || fail "ports: $output_of_both"

gzip -c "$capture" >compressed
[ "$("$tool" inspect compressed | tail -n +2)" = "$(echo "$output" | tail -n +2)" ] || fail "gzip"

"$tool" inspect --json "$capture" >report || fail "--json: exit status $?"
python3 - report <<'PYTHON' || fail "--json: $(cat report)"
import json, sys

report = json.load(open(sys.argv[1]))
device = report["device"]
assert report["link_type"] == "EN10MB" and report["records"] == 52, report
assert [d["ids"] for d in report["devices"]] == ["0403:6001"], report
assert report["devices"][0]["chosen"] is True, report
assert (device["chip"], device["address"], device["speed"]) == ("FT232R", "1.1", "full"), device
assert device["ports"] == 1, device
assert device["strings"]["2"] == "Echo", device
configuration = bytes.fromhex(device["configuration_descriptor"]["bytes"])
assert configuration[:4] == b"\x09\x02\x20\x00" and len(configuration) == 32, device
assert device["device_descriptor"]["from"] == "GET_DESCRIPTOR", device
endpoints = {e["bEndpointAddress"]: e for e in device["endpoints"]}
assert endpoints[2]["bytes"] == 6 and endpoints[2]["type"] == "bulk", endpoints
assert sum(e["transfers"] for e in endpoints.values()) == device["transfers"], device
assert set(device["missing"].values()) == {0}, device
PYTHON

# What cannot be replayed is told: the file has the configuration of 2 endpoints, a transfer on a
# third, and an isochronous one.
python3 - other_endpoint.pcap <<'PYTHON'
import struct, sys

configuration = bytes.fromhex("09022000010100802d 0904000002ffffff00 07058102400000 07050202400000")
answer = bytes.fromhex("8006000200002000")
events = [("S", 2, 0x80, b"", answer), ("C", 2, 0x80, configuration, None),
          ("S", 3, 0x05, b"hello", None), ("C", 3, 0x05, b"", None),
          ("S", 0, 0x02, b"sound", None), ("C", 0, 0x02, b"", None)]
with open(sys.argv[1], "wb") as file:
    file.write(struct.pack("<IHHiIII", 0xa1b2c3d4, 2, 4, 0, 0, 262144, 220))
    for number, (event, type, endpoint, data, setup) in enumerate(events):
        record = struct.pack("<QBBBBHBBqiiII", 7 + number // 2, ord(event), type, endpoint, 3, 1,
                             0 if setup else 0x2d, 0 if data else 0x3c, 0, 0, 0,
                             len(data), len(data)) + (setup or bytes(8)) + bytes(16) + data
        file.write(struct.pack("<IIII", 1, number, len(record), len(record)) + record)
PYTHON
[[ $("$tool" inspect other_endpoint.pcap) == \
    *"
    transfers on endpoints that the configuration lacks: 1
    isochronous transfers, which cannot be replayed: 1"* ]] ||
    fail "an endpoint without a descriptor: $("$tool" inspect other_endpoint.pcap 2>&1)"

# What cannot be written is an error.
"$tool" inspect "$capture" >/dev/full 2>error && fail "/dev/full"
[ "$(cat error)" = "$name: standard output cannot be written" ] || fail "/dev/full: $(cat error)"

[ $failures -eq 0 ] && echo "passed"
exit $((failures > 0))
