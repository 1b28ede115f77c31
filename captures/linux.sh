#!/bin/sh
# Makes linux_*.pcap, qemu_ftdi.pcap and usbmon_*.pcap: a session is held with the port that a driver of the
# kernel of a Linux guest makes (tests/linux/vhci_replay.scenario.sh). In linux_*.pcap the device is
# scripts/echo_ftdi.lua, scripts/echo_ft2232h.lua or scripts/echo_acm.lua, and the emulator records. In
# qemu_ftdi.pcap it is the one that QEMU emulates, and QEMU records. In usbmon_*.pcap the guest records, its
# device being QEMU's or the CDC-ACM gadget of Linux on dummy_hcd.
#
# Usage: captures/linux.sh [NAME...], in the workspace; a NAME is a file's without .pcap.
set -eu
[ $# -gt 0 ] || set -- linux_ftdi_sio linux_ftdi_sio_ft2232h linux_cdc_acm qemu_ftdi usbmon_ftdi_sio \
    usbmon_cdc_acm
for name in "$@"; do
    device=${name#linux_}
    device=${device#ftdi_sio_}
    file=/tmp/$name.$$.pcap
    ./bazelw test --nocache_test_results --spawn_strategy=local --test_env=RECORD="$file" \
        "//tests/linux:vhci_replay_${device%_sio}"
    cp "$file" "captures/$name.pcap"
    chmod 644 "captures/$name.pcap"
    rm "$file"
done
