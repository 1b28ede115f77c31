#!/bin/bash
# The kernel of a Linux guest is the client: its vhci_hcd and its driver for $DEVICE attach to our emulator,
# and then to a second device as well, one of the example scripts.

# shellcheck source=tests/linux/guest.sh
. "$GUEST_LIBRARY"

case $DEVICE in
cdc_acm) usb_id=1209:0001 driver=cdc_acm tty=ttyACM0 second_tty=ttyACM1 ;;
ftdi) usb_id=0403:6001 driver=ftdi_sio tty=ttyUSB0 second_tty=ttyACM0 ;;
*) fail "no such DEVICE: $DEVICE" ;;
esac
{
    echo "device { type = '$DEVICE', idVendor = 0x${usb_id%:*}, idProduct = 0x${usb_id#*:} }"
    cat "$HOOKS"
} >"$work/device.lua"
start_server emulator "$work/port" "$EMULATOR" --listen 127.0.0.1:0 --port-file "$work/port" \
    "$work/device.lua" "$EXAMPLE"

guest_boot "usbip_port=$port" "usb_id=$usb_id" "driver=$driver" "tty=$tty" "second_tty=$second_tty"
guest_end
check emulator_ends stop emulator

# What the script was told, as it logged it.
told() {
    in_order "$work/emulator.log" "${@/#/^1-1: }"
}
check told_settings told 'coding 9600 7E2$' 'coding 250000 8O1$' 'coding 115200 8N1$'
check told_lines told 'lines true true$' 'lines true false$' 'lines false false$' \
    'lines false true$' 'lines true true$' 'lines false false$'
check told_break told 'break start$' 'break stop$'
check told_attach told 'attached by' 'detached from' 'attached by' 'detached from'

verdict list attach settings lines modem break echo attach_second echo_both \
    detach attach_again echo_again detach_again detach_second \
    emulator_ends told_settings told_lines told_break told_attach
