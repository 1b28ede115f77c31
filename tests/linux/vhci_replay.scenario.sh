# shellcheck shell=dash disable=SC2154
# Linux's vhci_hcd attaches to a device on the host, and $driver makes it $tty, and $second_tty if it has two
# ports: a session that reads what it has written. From the host come $host, $usbip_port, $driver, $tty,
# $second_tty (or nothing) and $breaks. When $host is not vhci_hcd, it is
# the driver of the host controller that has the device: uhci_hcd with QEMU's, dummy_hcd with the CDC-ACM
# gadget of Linux. With $usbmon=1, usbmon's recording of the session goes to the host. With $breaks=0, the
# device does not claim to send breaks, as the gadget does not, and its driver refuses to.

attach() {
    case $host in
    vhci_hcd) usbip --tcp-port "$usbip_port" attach -r 10.0.2.2 -b 1-1 ;;
    uhci_hcd) modprobe uhci_hcd ;;
    dummy_hcd) start_gadget ;;
    esac && eventually [ -c "/dev/$tty" ] && { [ -z "$second_tty" ] || eventually [ -c "/dev/$second_tty" ]; }
}

# The far end of its line sends back what comes.
start_gadget() {
    modprobe -a dummy_hcd usb_f_acm && modprobe g_serial use_acm=1 || return
    guest_tool echo /dev/ttyGS0 >/run/far_end &
    eventually grep -qs open /run/far_end
}

detach() {
    [ "$host" = vhci_hcd ] || return 0
    usbip detach -p 0 && eventually [ ! -e "/dev/$tty" ]
}

steps() {
    guest_tool tty "/dev/$tty" "$@"
}

second_steps() {
    guest_tool tty "/dev/$second_tty" "$@"
}

# Both programs open, set up, write and read as it comes.
echo_both() {
    second_steps echo 3000 &
    steps echo 2000 && wait $!
}

send_break() {
    if [ "$breaks" = 1 ]; then
        steps break
    else
        steps break 2>&1 | grep 'Operation not supported'
    fi
}

modprobe "$driver"
if [ "$usbmon" = 1 ]; then
    modprobe usbmon
    guest_tool usbmon-pcap 0 >/run/usbmon.pcap &
    recorder=$!
    eventually [ -s /run/usbmon.pcap ]
fi
[ "$host" != vhci_hcd ] || modprobe vhci_hcd

check attach attach
check settings steps set 9600 7E2 set 250000 8O1 set 115200 8N1
check lines steps rts off dtr off rts on dtr on
check break send_break
check echo steps echo 2000
if [ -n "$second_tty" ]; then
    check second second_steps set 19200 7O1 set 3000000 8N1 rts off dtr off rts on dtr on break echo 2000
    check echo_both echo_both
fi
check detach detach

if [ "$usbmon" = 1 ]; then
    kill "$recorder"
    check usbmon wait "$recorder"
    set +x
    gzip -c /run/usbmon.pcap | base64 | while read -r part; do
        echo "NOTE $part" >&3
    done
fi
