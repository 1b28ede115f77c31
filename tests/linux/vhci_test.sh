#!/bin/bash
# The kernel of a Linux guest is the client: its vhci_hcd and its driver for $DEVICE attach to our emulator.

# shellcheck source=tests/linux/guest.sh
. "$GUEST_LIBRARY"

start_server emulator "$work/port" $SERVER "$work/port"
case $DEVICE in
ftdi) guest_boot "usbip_port=$port" usb_id=0403:6001 usb_driver=ftdi_sio tty=ttyUSB0 ;;
cdc_acm) guest_boot "usbip_port=$port" usb_id=1d6b:0104 usb_driver=cdc_acm tty=ttyACM0 ;;
*) fail "no such DEVICE: $DEVICE" ;;
esac
guest_end
stop emulator || true
cat $work/emulator.log
verdict list attach settings lines break echo detach attach_again echo_again detach_again
