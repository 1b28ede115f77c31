#!/bin/bash
# The conformance suite runs against the real usbipd of a Linux guest, with $DEVICE under test. $PART is what
# of it: strict, hostile, or race, the one case that takes the kernel down.
# The audio device is there for the isochronous cases alone: PART iso.

# shellcheck source=tests/linux/guest.sh
. "$GUEST_LIBRARY"

conformance() {
    "$CONFORMANCE" "127.0.0.1:$port" --busid "$busid" --unshared 2-2 --timeout-ms 5000 \
        --stimulus "unix:$far_end" --expect linux --expect linux-guest --expect "linux-${DEVICE//_/-}" "$@"
}

# Whether the kernel complained about nothing but this.
trouble_is() {
    ! grep -vE "$1" "$notes"
}

second=(-device "usb-kbd,port=2")
case $DEVICE in
audio)
    busid=2-2 gadget=far_end ftdi=nobody
    second=(-audiodev "none,id=audio" -device "usb-audio,audiodev=audio,port=2")
    ;;
cdc_acm) busid=1-1 gadget=far_end ftdi=nobody ;;
ftdi) busid=2-1 gadget=nobody ftdi=far_end ;;
*) fail "no such DEVICE: $DEVICE" ;;
esac
# shellcheck disable=SC2153 # the environment has it
case $PART in
iso | strict | race) rounds=0 ;;
hostile) rounds=2 ;;
*) fail "no such PART: $PART" ;;
esac

# A path that fits into a socket's address, wherever this test runs.
far_end=$(realpath --relative-to=. "$work")/far_end
# shellcheck disable=SC2034 # guest_boot reads it
guest_forward=tcp:10.0.2.100:1-chardev:$gadget
# Every unlink is a line of the kernel's log, which shall not lose its first ones.
guest_boot busid=$busid rounds=$rounds log_buf_len=4M -- -device piix3-usb-uhci \
    -chardev "socket,id=far_end,path=$far_end,server=on,wait=off" -chardev null,id=nobody \
    -device "usb-serial,chardev=$ftdi,always-plugged=on" "${second[@]}"
guest_await serving
guest_port
case $PART in
iso)
    check conformance "$CONFORMANCE" "127.0.0.1:$port" --busid "$busid" --profile strict \
        --expect linux --expect linux-audio K
    guest_go serving
    ;;
strict)
    check conformance conformance --profile strict --skip S128
    guest_go serving
    ;;
hostile)
    check conformance conformance --profile hostile --skip S070 --skip S115
    guest_go serving
    # Each of these leaves the device in error.
    for case in S070 S115; do
        guest_await bound
        check $case conformance --profile hostile $case
        guest_go bound
    done
    ;;
race)
    check conformance conformance --expect linux-race --profile soak S128
    guest_go serving
    ;;
esac
guest_end
case $PART in
iso | strict)
    check kernel trouble_is '^$'
    verdict conformance kernel
    ;;
hostile)
    # S082, and S115
    check kernel trouble_is 'WARNING: .* usb_submit_urb|WARNING: .* __alloc_pages'
    verdict conformance S070 S115 kernel
    ;;
race)
    say "the kernel said:" && cat "$notes"
    verdict conformance
    ;;
esac
