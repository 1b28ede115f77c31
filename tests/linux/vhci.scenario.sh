# shellcheck shell=dash disable=SC2154
# Linux as the client: its vhci_hcd attaches to a server on the host, and its serial driver finds a
# device that it takes for real. From the host come $usbip_port, $usb_id, $usb_driver and $tty. The device
# sends back what comes.

remote() {
    usbip --tcp-port "$usbip_port" "$@"
}

attach() {
    remote attach -r 10.0.2.2 -b 1-1 && eventually [ -c "/dev/$tty" ]
}

detach() {
    usbip detach -p 0 && eventually [ ! -e "/dev/$tty" ]
}

listed() {
    remote list -r 10.0.2.2 | tee /dev/console | grep -q "1-1:.*($usb_id)"
}

modprobe -a vhci_hcd "$usb_driver"

check list listed
check attach attach
check settings guest_tool tty "/dev/$tty" set 9600 7E2 set 250000 8O1 set 115200 8N1
# A line a time; opening the port has raised both, and closing it drops both.
check lines guest_tool tty "/dev/$tty" rts off dtr off rts on dtr on
check break guest_tool tty "/dev/$tty" break
check echo guest_tool tty "/dev/$tty" echo 65536
check detach detach

check attach_again attach
check echo_again guest_tool tty "/dev/$tty" echo 1000
check detach_again detach
