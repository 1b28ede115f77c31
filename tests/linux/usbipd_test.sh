#!/bin/bash
# Our client drives the real usbipd of a Linux guest, which exports $DEVICE.

# shellcheck source=tests/linux/guest.sh
. "$GUEST_LIBRARY"

client() {
    "$CLIENT" "$port" "$@"
}

listed() {
    client list >"$work/list.log" && grep -qx "1-1 $usb_id" "$work/list.log"
}

far_end() {
    exec tee "$work/far_end.bytes" <"$work/line.out" >"$work/line.in"
}

case $DEVICE in
ftdi)
    usb_id=0403:6001
    # The far end of the serial line sends back what comes, and keeps a copy.
    mkfifo "$work"/line.{in,out}
    start far_end far_end
    # QEMU's traces tell what its converter was told and how it understood that.
    guest_boot -- -trace 'usb_serial_*' -D "$work/trace.log" -device piix3-usb-uhci \
        -chardev "pipe,id=line,path=$work/line" -device "usb-serial,chardev=line,always-plugged=on"
    ;;
cdc_acm)
    usb_id=0525:a4a7
    guest_boot
    ;;
*)
    fail "no such DEVICE: $DEVICE"
    ;;
esac
guest_await serving
guest_port

check list listed
check unknown_busid client refused 9-9 4

start holder "$CLIENT" "$port" hold 1-1
await_line holder "$work/holder.log" holding
check busy client refused 1-1 2
# The connection drops without a word. The server lists the device again when it is free.
stop holder KILL || true
eventually listed

# 9600 7E2, 115200 8N1; DTR and RTS both on, RTS off, DTR off, DTR on, RTS on; then 64 KiB there and back.
check session client session 1-1

guest_go serving
guest_end
case $DEVICE in
ftdi)
    check settings in_order "$work/trace.log" \
        'set_baud .* 9600$' 'set_data .* parity E, data bits 7, stop bits 2$' \
        'set_baud .* 115[0-9]{3}$' 'set_data .* parity N, data bits 8, stop bits 1$'
    # SetModemControl; in the value the high byte selects a line, the low byte is its state.
    check lines in_order "$work/trace.log" \
        'control 0x4001, value 0x(202|303)$' 'control 0x4001, value 0x200$' 'control 0x4001, value 0x100$' \
        'control 0x4001, value 0x101$' 'control 0x4001, value 0x202$'
    check far_end [ "$(wc -c <"$work/far_end.bytes")" -eq 65536 ]
    more=far_end
    ;;
cdc_acm)
    # SET_LINE_CODING; the number is little-endian.
    check settings in_order "$notes" \
        '^21 20 0000 0000 0007 80250000020207$' '^21 20 0000 0000 0007 00c20100000008$'
    # SET_CONTROL_LINE_STATE; RTS is 2, DTR is 1.
    check lines in_order "$notes" \
        '^21 22 0003 ' '^21 22 0001 ' '^21 22 0000 ' '^21 22 0001 ' '^21 22 0003 '
    more=usbmon
    ;;
esac
verdict list unknown_busid busy session settings lines "$more"
