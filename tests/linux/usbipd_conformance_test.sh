#!/bin/bash
# The conformance suite runs against the real usbipd of a Linux guest, with $DEVICE under test.

# shellcheck source=tests/linux/guest.sh
. "$GUEST_LIBRARY"

case $DEVICE in
cdc_acm) busid=1-1 ;;
ftdi) busid=2-1 ;;
*) fail "no such DEVICE: $DEVICE" ;;
esac
mkfifo "$work"/line.{in,out}
start far_end tee /dev/null <"$work/line.out" >"$work/line.in"
guest_boot -- -device piix3-usb-uhci \
    -chardev "pipe,id=line,path=$work/line" -device "usb-serial,chardev=line,always-plugged=on" \
    -device usb-kbd
guest_await serving
guest_port
check conformance "$CONFORMANCE" "127.0.0.1:$port" --busid $busid --unshared 2-2 \
    --profile "$PROFILE" --expect "$EXPECT"
guest_go serving
guest_end
check kernel test ! -s "$notes"
verdict conformance kernel
