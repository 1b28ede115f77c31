# shellcheck shell=dash
# Linux as a client under test of the conformance suite, which runs on the host: what it asks for is done
# with usbip and a serial port until the host says that it is over.

modprobe -a vhci_hcd cdc_acm ftdi_sio

guest_tool serve &
eventually listening
meet serving
