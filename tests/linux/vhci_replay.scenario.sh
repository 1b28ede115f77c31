# shellcheck shell=dash disable=SC2154
# Linux's vhci_hcd attaches to a device on the host, and $driver makes it $tty: a session that reads what
# it has written. From the host come $usbip_port (0: the device is QEMU's), $driver and $tty.

attach() {
    if [ "$usbip_port" = 0 ]; then
        modprobe uhci_hcd && eventually [ -c "/dev/$tty" ]
        return
    fi
    usbip --tcp-port "$usbip_port" attach -r 10.0.2.2 -b 1-1 && eventually [ -c "/dev/$tty" ]
}

detach() {
    [ "$usbip_port" != 0 ] || return 0
    usbip detach -p 0 && eventually [ ! -e "/dev/$tty" ]
}

steps() {
    guest_tool tty "/dev/$tty" "$@"
}

modprobe -a vhci_hcd "$driver"

check attach attach
check settings steps set 9600 7E2 set 250000 8O1 set 115200 8N1
check lines steps rts off dtr off rts on dtr on
check break steps break
check echo steps echo 2000
check detach detach
