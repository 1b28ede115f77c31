#!/bin/sh
# Makes echo_ftdi_tcp.pcap: usbip-serial opens scripts/echo_ftdi.lua over TCP, writes a line and
# reads it back. Needs dumpcap (Debian: wireshark-common) and the right to capture on lo.
#
# Usage: captures/echo_ftdi_tcp.sh, in the workspace, after
#   ./bazelw build //client:usbip-serial //emulator:usbip-emulator
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

bazel-bin/emulator/usbip-emulator --listen 127.0.0.1:3240 --seed 1 --port-file "$folder/port" \
    scripts/echo_ftdi.lua >/dev/null &
emulator=$!
dumpcap -q -P -i lo -f 'tcp port 3240' -w "$folder/capture" 2>"$folder/log" &
recorder=$!
until [ -s "$folder/port" ] && grep -q '^File:' "$folder/log"; do sleep 0.1; done

bazel-bin/client/usbip-serial send --read 1-1 'hello\n'
# dumpcap gets packets from the kernel in blocks, the last of them within a second.
sleep 2
kill -INT "$recorder" && wait "$recorder"
kill "$emulator" && wait "$emulator"
cp "$folder/capture" captures/echo_ftdi_tcp.pcap
chmod 644 captures/echo_ftdi_tcp.pcap
