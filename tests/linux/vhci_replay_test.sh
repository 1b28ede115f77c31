#!/bin/bash
# The kernel of a Linux guest opens a device that is replayed from $CAPTURE: its driver must find nothing
# amiss, and read what was recorded. With RECORD=FILE in the environment, the device is the example
# script instead, and the session is recorded to FILE: captures/linux.sh makes its files so.

# shellcheck source=tests/linux/guest.sh
. "$GUEST_LIBRARY"

case $DEVICE in
cdc_acm) driver=cdc_acm tty=ttyACM0 ;;
ftdi) driver=ftdi_sio tty=ttyUSB0 ;;
*) fail "no such DEVICE: $DEVICE" ;;
esac
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
