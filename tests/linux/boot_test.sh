#!/bin/bash
# The guest boots, and both halves of a test hear each other.

# shellcheck source=tests/linux/guest.sh
. "$GUEST_LIBRARY"

guest_boot color=green
guest_await middle
check not_yet [ ! -s "$notes" ]
guest_go middle
guest_end
check note grep -qx "the color is green" "$notes"
verdict usbip not_yet note
