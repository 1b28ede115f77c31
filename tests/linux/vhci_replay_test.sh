#!/bin/bash
# The kernel of a Linux guest opens a device that is replayed from $CAPTURE: its driver must find nothing
# amiss, and read what was recorded. With RECORD=FILE in the environment, the device is the example
# script instead, or QEMU's FTDI, and the session is recorded to FILE: captures/linux.sh makes its files so.

# shellcheck source=tests/linux/guest.sh
. "$GUEST_LIBRARY"

# The far end of the serial line of QEMU's FTDI sends back what comes.
far_end() {
    exec cat <"$work/line.out" >"$work/line.in"
}

case $DEVICE in
cdc_acm) driver=cdc_acm tty=ttyACM0 ;;
ftdi | qemu_ftdi) driver=ftdi_sio tty=ttyUSB0 ;;
*) fail "no such DEVICE: $DEVICE" ;;
esac
if [ -n "${RECORD:-}" ] && [ "$DEVICE" = qemu_ftdi ]; then
    mkfifo "$work"/line.{in,out}
    start far_end far_end
    guest_boot usbip_port=0 "driver=$driver" "tty=$tty" -- \
        -device piix3-usb-uhci -chardev "pipe,id=line,path=$work/line" \
        -device "usb-serial,chardev=line,always-plugged=on,pcap=$RECORD"
    guest_end
    verdict attach settings lines break echo detach
    exit
fi
if [ -n "${RECORD:-}" ]; then
    device=("$EXAMPLE" --record "$RECORD")
else
    device=("$CAPTURE" --divergence "$work/report.json")
fi
start_server emulator "$work/port" "$EMULATOR" --listen 127.0.0.1:0 --port-file "$work/port" \
    "${device[@]}"

guest_boot "usbip_port=$port" "driver=$driver" "tty=$tty"
guest_end
check no_divergence stop emulator
grep divergence "$work/emulator.log" || :

verdict attach settings lines break echo detach no_divergence
