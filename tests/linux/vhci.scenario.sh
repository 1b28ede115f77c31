# shellcheck shell=dash disable=SC2154
# Linux as the client: its vhci_hcd attaches to a server on the host, and its serial drivers take what
# is there for real devices. From the host come $usbip_port and, for the device 1-1, $usb_id, $driver and
# $tty; $second_tty is what there will be for the device 1-2, a CDC-ACM device. Both send back what comes.

remote() {
    usbip --tcp-port "$usbip_port" "$@"
}

# attach BUSID TTY
attach() {
    remote attach -r 10.0.2.2 -b "$1" && eventually [ -c "/dev/$2" ]
}

# detach PORT TTY : the port is one of vhci_hcd's, in the order of attaching
detach() {
    usbip detach -p "$1" && eventually [ ! -e "/dev/$2" ]
}

listed() {
    remote list -r 10.0.2.2 >/run/list
    cat /run/list
    grep -q "1-1:.*($usb_id)" /run/list && grep -q "1-2:.*(1209:0001)" /run/list
}

# steps STEP... : on the port of the first device
steps() {
    guest_tool tty "/dev/$tty" "$@"
}

# Linux's driver for CDC-ACM, whose devices have no CTS, shows it as always on.
modem() {
    case $driver in
    cdc_acm) steps dtr off await dcd off await dsr off dtr on await dcd on await dsr on ;;
    ftdi_sio)
        steps dtr off await dcd off await dsr off await cts on rts off await cts off \
            dtr on await dcd on await dsr on rts on await cts on
        ;;
    esac
}

echo_both() {
    guest_tool tty "/dev/$second_tty" echo 65536 &
    steps echo 65536 && wait $!
}

modprobe -a vhci_hcd cdc_acm "$driver"

check list listed
check attach attach 1-1 "$tty"
check settings steps set 9600 7E2 set 250000 8O1 set 115200 8N1
# Opening the port has raised both lines, and closing it drops both.
check lines steps rts off dtr off rts on dtr on
check modem modem
check break steps break
check echo steps echo 65536

check attach_second attach 1-2 "$second_tty"
check echo_both echo_both

check detach detach 0 "$tty"
check attach_again attach 1-1 "$tty"
check echo_again steps echo 1000
check detach_again detach 0 "$tty"
check detach_second detach 1 "$second_tty"
