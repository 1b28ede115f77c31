# shellcheck shell=dash disable=SC2154
# The real usbipd exports Linux's own CDC-ACM device as 1-1 and the FTDI converter that QEMU emulates as
# 2-1. What is at 2-2 is QEMU's keyboard, there and not exported, or the audio device under test. The far end of the CDC-ACM device's serial line
# goes to the host by TCP. From the host come $busid and, in $rounds, how often that device is bound again.

modprobe -a dummy_hcd uhci_hcd usbip_host usb_f_acm
modprobe g_serial use_acm=1
guest_tool relay /dev/ttyGS0 10.0.2.100 1 &
eventually [ -e /sys/bus/usb/devices/2-1/idVendor ]
eventually [ -e /sys/bus/usb/devices/2-2/idVendor ]
usbip bind -b 2-1
[ "$busid" != 2-2 ] || usbip bind -b 2-2
serve_usbip 1-1
meet serving

while [ "$rounds" -gt 0 ]; do
    usbip unbind -b "$busid"
    usbip bind -b "$busid"
    rounds=$((rounds - 1))
    meet bound
done

dmesg | sed -nE 's/^\[[^]]*\] *//; /Oops|BUG|WARNING|general protection|refcount|hung task/p' >/run/trouble
while read -r trouble; do
    say "NOTE $trouble"
done </run/trouble
