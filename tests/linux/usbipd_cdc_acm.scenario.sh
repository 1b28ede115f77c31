# shellcheck shell=dash
# The real usbipd exports Linux's own CDC-ACM device. The far end of its serial line, /dev/ttyGS0,
# sends back what comes.

modprobe -a dummy_hcd usbip_host usbmon usb_f_acm
modprobe g_serial use_acm=1
guest_tool echo /dev/ttyGS0 &
serve_usbip 1-1

# What the device is told, as Linux's own monitor sees it.
guest_tool usbmon 1 >/run/usbmon &
usbmon=$!
eventually grep -q watching /run/usbmon
meet serving

kill $usbmon
check usbmon wait $usbmon
# Class requests for an interface.
grep '^21 ' /run/usbmon | while read -r request; do
    say "NOTE $request"
done
