# shellcheck shell=dash disable=SC2154
# Linux's vhci_hcd attaches to a chip with two ports on the host, and ftdi_sio makes two serial ports of it.
# From the host comes $usbip_port.

attach() {
    usbip --tcp-port "$usbip_port" attach -r 10.0.2.2 -b 1-1 &&
        eventually [ -c /dev/ttyUSB0 ] && eventually [ -c /dev/ttyUSB1 ]
}

detach() {
    usbip detach -p 0 && eventually [ ! -e /dev/ttyUSB0 ] && eventually [ ! -e /dev/ttyUSB1 ]
}

first() {
    guest_tool tty /dev/ttyUSB0 "$@"
}

second() {
    guest_tool tty /dev/ttyUSB1 "$@"
}

who() {
    first send who expect 'port 1' && second send who expect 'port 2'
}

settings() {
    first set 9600 7E2 && second set 250000 8O1 && first set 3000000 8N1 && second set 300 7N1
}

# The first port stays open, with its lines as opening has left them.
lines() {
    exec 5<>/dev/ttyUSB0
    second rts off await cts off dtr off await dcd off await dsr off \
        rts on await cts on dtr on await dcd on await dsr on rts off await cts off &&
        first await cts on await dcd on await dsr on
    status=$?
    exec 5>&-
    return $status
}

# The driver remembers what it has set. It asks the chip when it takes a port.
latency() {
    timers=/sys/bus/usb-serial/devices
    echo 5 >$timers/ttyUSB1/latency_timer
    for interface in /sys/bus/usb/drivers/ftdi_sio/*:*; do
        echo "${interface##*/}" >/sys/bus/usb/drivers/ftdi_sio/unbind
        echo "${interface##*/}" >/sys/bus/usb/drivers/ftdi_sio/bind
    done
    [ "$(cat $timers/ttyUSB0/latency_timer)" = 16 ] && [ "$(cat $timers/ttyUSB1/latency_timer)" = 5 ]
}

echo_both() {
    second echo 65536 &
    first echo 65536 && wait $!
}

modprobe -a vhci_hcd ftdi_sio

check attach attach
check who who
check settings settings
check lines lines
check latency latency
check break second break
check echo_both echo_both
check detach detach
check attach_again attach
check who_again who
check detach_again detach
