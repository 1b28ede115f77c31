#!/bin/sh
# Makes linux_ftdi_sio.pcap, linux_cdc_acm.pcap and qemu_ftdi.pcap: the kernel of a Linux guest attaches to
# scripts/echo_ftdi.lua and scripts/echo_acm.lua, and a session is held with the port that its driver makes
# (tests/linux/vhci_replay.scenario.sh). The emulator records. For the third file, the device is the one that
# QEMU emulates, and QEMU records.
#
# Usage: captures/linux.sh, in the workspace.
set -eu
for name in ftdi:linux_ftdi_sio cdc_acm:linux_cdc_acm qemu_ftdi:qemu_ftdi; do
    file=/tmp/${name#*:}.$$.pcap
    ./bazelw test --nocache_test_results --spawn_strategy=local --test_env=RECORD="$file" \
        "//tests/linux:vhci_replay_${name%:*}"
    cp "$file" "captures/${name#*:}.pcap"
    chmod 644 "captures/${name#*:}.pcap"
    rm "$file"
done
