#!/bin/bash
# The kernel of a Linux guest is the client: its vhci_hcd and its driver for $DEVICE attach to our emulator.

# shellcheck source=tests/linux/guest.sh
. "$GUEST_LIBRARY"

start_server emulator "$work/port" "$EMULATOR" -v --listen 127.0.0.1:0 --port-file "$work/port" "$SCRIPT"
case $DEVICE in
ftdi) guest_boot "usbip_port=$port" usb_id=0403:6001 usb_driver=ftdi_sio tty=ttyUSB0 ;;
cdc_acm) guest_boot "usbip_port=$port" usb_id=1d6b:0104 usb_driver=cdc_acm tty=ttyACM0 ;;
*) fail "no such DEVICE: $DEVICE" ;;
esac
guest_end
check emulator_ends stop emulator
verdict list attach settings lines break echo detach attach_again echo_again detach_again emulator_ends
