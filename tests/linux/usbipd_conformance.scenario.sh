# shellcheck shell=dash
# The real usbipd exports Linux's own CDC-ACM device as 1-1 and the FTDI converter that QEMU emulates as
# 2-1. QEMU's keyboard, 2-2, is there and not exported. The far end of the CDC-ACM device's serial line
# goes to the host by TCP.

modprobe -a dummy_hcd uhci_hcd usbip_host usb_f_acm
modprobe g_serial use_acm=1
guest_tool relay /dev/ttyGS0 10.0.2.100 1 &
eventually [ -e /sys/bus/usb/devices/2-1/idVendor ]
eventually [ -e /sys/bus/usb/devices/2-2/idVendor ]
usbip bind -b 2-1
serve_usbip 1-1
meet serving
dmesg | grep -E 'Oops|BUG:|WARNING:|general protection' >/run/kernel || true
while read -r trouble; do
    say "NOTE kernel: $trouble"
done </run/kernel
