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

# The far end of the FTDI's serial line sends back what comes, and keeps a copy.
far_end() {
    exec tee "$work/far_end.bytes" <"$work/line.out" >"$work/line.in"
}

# What the device was told, as a line of its settings after each change, "settings 9600 7E2", and of its
# modem control lines, "lines 3": DTR is 1, RTS is 2.

# From the traces of QEMU's FTDI: its understanding of a speed and of a format, and SetModemControl, whose
# value tells in its high byte which lines to set, and to what in its low byte.
told_ftdi() {
    local each speed='' format='' lines=0 value
    while IFS= read -r each; do
        if [[ $each =~ set_baud\ .*\ ([0-9]+)$ ]]; then
            speed=${BASH_REMATCH[1]}
            echo "settings $speed $format"
        elif [[ $each =~ set_data\ .*parity\ (.),\ data\ bits\ (.),\ stop\ bits\ (.)$ ]]; then
            format=${BASH_REMATCH[2]}${BASH_REMATCH[1]}${BASH_REMATCH[3]}
            echo "settings $speed $format"
        elif [[ $each =~ control\ 0x4001,\ value\ (0x[0-9a-f]+)$ ]]; then
            value=$((BASH_REMATCH[1]))
            lines=$((lines & ~(value >> 8) | value & value >> 8))
            echo "lines $lines"
        fi
    done <"$work/trace.log"
}

# From the requests that the guest saw on its bus: SET_LINE_CODING with little-endian bit/s, stop bits,
# parity and data bits, and SET_CONTROL_LINE_STATE.
told_cdc_acm() {
    local each byte='(..)' parities=(N O E M S) stops=(1 1.5 2)
    while IFS= read -r each; do
        if [[ $each =~ ^21\ 20\ 0000\ 0000\ 0007\ $byte$byte$byte$byte$byte$byte$byte$ ]]; then
            set -- "${BASH_REMATCH[@]:1}"
            echo "settings $((0x$4$3$2$1)) $((0x$7))${parities[0x$6]}${stops[0x$5]}"
        elif [[ $each =~ ^21\ 22\ (....)\ 0000\ 0000$ ]]; then
            echo "lines $((0x${BASH_REMATCH[1]}))"
        fi
    done <"$notes"
}

case $DEVICE in
ftdi)
    usb_id=0403:6001
    mkfifo "$work"/line.{in,out}
    start far_end far_end
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
guest_go serving

guest_await ready
check session client session 1-1
guest_go ready
guest_end

"told_$DEVICE" >"$work/told.log"
# 115384 is as close as the FTDI's divisor gets.
check settings in_order "$work/told.log" '^settings 9600 7E2$' '^settings (115200|115384) 8N1$'
check lines in_order "$work/told.log" '^lines 3$' '^lines 1$' '^lines 0$' '^lines 1$' '^lines 3$'
case $DEVICE in
ftdi)
    check far_end [ "$(wc -c <"$work/far_end.bytes")" -eq 65536 ]
    verdict list unknown_busid busy session settings lines far_end
    ;;
cdc_acm)
    verdict list unknown_busid busy session settings lines usbmon
    ;;
esac
