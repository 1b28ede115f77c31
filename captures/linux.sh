#!/bin/sh
# Makes linux_ftdi_sio.pcap and linux_cdc_acm.pcap: the kernel of a Linux guest attaches to
# scripts/echo_ftdi.lua and scripts/echo_acm.lua, and a session is held with the port that its driver makes
# (tests/linux/vhci_replay.scenario.sh). The emulator records.
#
# Usage: captures/linux.sh, in the workspace.
set -eu
for name in ftdi:ftdi_sio cdc_acm:cdc_acm; do
    file=/tmp/linux_${name#*:}.$$.pcap
    ./bazelw test --nocache_test_results --spawn_strategy=local --test_env=RECORD="$file" \
        "//tests/linux:vhci_replay_${name%:*}"
    cp "$file" "captures/linux_${name#*:}.pcap"
    chmod 644 "captures/linux_${name#*:}.pcap"
    rm "$file"
done
