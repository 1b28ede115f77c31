# shellcheck shell=dash
# The real usbipd exports the FTDI converter that QEMU emulates. The far end of its serial line is
# on the host.

modprobe -a uhci_hcd usbip_host
serve_usbip 1-1
meet serving
meet ready
