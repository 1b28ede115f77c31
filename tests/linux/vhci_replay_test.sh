#!/bin/bash
# The kernel of a Linux guest opens a device that is replayed from $CAPTURE: its driver must find nothing
# amiss, and read what was recorded. With RECORD=FILE in the environment, the device is the example
# script instead, or QEMU's FTDI, or the gadget of Linux, and the session is recorded to FILE:
# captures/linux.sh makes its files so.

# shellcheck source=tests/linux/guest.sh
. "$GUEST_LIBRARY"

# The far end of the serial line of QEMU's FTDI sends back what comes.
far_end() {
    exec cat <"$work/line.out" >"$work/line.in"
}

case $DEVICE in
cdc_acm | usbmon_cdc_acm) driver=cdc_acm tty=ttyACM0 ;;
ftdi | qemu_ftdi | usbmon_ftdi | ft2232h) driver=ftdi_sio tty=ttyUSB0 ;;
*) fail "no such DEVICE: $DEVICE" ;;
esac
session=("driver=$driver" "tty=$tty" breaks=1)
[ "$DEVICE" != usbmon_cdc_acm ] || session[2]=breaks=0
checks=(attach settings lines break echo detach)
if [ "$DEVICE" = ft2232h ]; then
    session+=(second_tty=ttyUSB1)
    checks+=(second echo_both)
fi

# record_usbmon HOST [-- QEMU_OPTION...] : the guest records what its host controller's driver does.
record_usbmon() {
    local host=$1
    shift
    guest_boot "host=$host" usbmon=1 "${session[@]}" "$@"
    guest_end
    base64 -d "$notes" | gzip -d >"$RECORD"
    verdict "${checks[@]}" usbmon
    exit
}

if [ -n "${RECORD:-}" ]; then
    line=(-device piix3-usb-uhci -chardev "pipe,id=line,path=$work/line")
    usb_serial=usb-serial,chardev=line,always-plugged=on
    case $DEVICE in
    usbmon_cdc_acm) record_usbmon dummy_hcd ;;
    qemu_ftdi | usbmon_ftdi)
        mkfifo "$work"/line.{in,out}
        start far_end far_end
        ;;&
    usbmon_ftdi) record_usbmon uhci_hcd -- "${line[@]}" -device "$usb_serial" ;;
    qemu_ftdi)
        guest_boot host=uhci_hcd usbmon=0 "${session[@]}" -- \
            "${line[@]}" -device "$usb_serial,pcap=$RECORD"
        guest_end
        verdict "${checks[@]}"
        exit
        ;;
    esac
    device=("$EXAMPLE" --record "$RECORD")
else
    device=("$CAPTURE" --divergence "$work/report.json")
fi
start_server emulator "$work/port" "$EMULATOR" --listen 127.0.0.1:0 --port-file "$work/port" \
    "${device[@]}"

guest_boot host=vhci_hcd usbmon=0 "usbip_port=$port" "${session[@]}"
guest_end
check no_divergence stop emulator
grep divergence "$work/emulator.log" || :

verdict "${checks[@]}" no_divergence
