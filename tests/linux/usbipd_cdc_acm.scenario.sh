# shellcheck shell=dash
# The real usbipd exports Linux's own CDC-ACM device. The far end of its serial line, /dev/ttyGS0,
# sends back what comes.

start_far_end() {
    rm -f /run/far_end
    guest_tool echo /dev/ttyGS0 >/run/far_end &
    far_end=$!
    eventually grep -qs open /run/far_end
}

modprobe -a dummy_hcd usbip_host usbmon usb_f_acm
modprobe g_serial use_acm=1
start_far_end
serve_usbip 1-1
meet serving

# When a configured device is configured again, it hangs up /dev/ttyGS0 and loses what comes until that
# is open again: so give it to the next client without a configuration.
kill $far_end
echo 0 >/sys/bus/usb/devices/1-1/bConfigurationValue
start_far_end
# What the device is told, as Linux's own monitor sees it.
guest_tool usbmon 1 >/run/usbmon &
usbmon=$!
eventually grep -qs watching /run/usbmon
meet ready

kill $usbmon
check usbmon wait $usbmon
# Class requests for an interface.
grep '^21 ' /run/usbmon | while read -r request; do
    say "NOTE $request"
done
