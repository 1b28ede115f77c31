#!/bin/bash
# The kernel of a Linux guest with Debian's usbip is the client of the conformance suite. $CASES are run, and
# compared with the table $TABLE.

# shellcheck source=tests/linux/guest.sh
. "$GUEST_LIBRARY"

# shellcheck disable=SC2119 # it needs no arguments
guest_boot
guest_await serving
guest_port

# A step of an emulated machine takes its time.
conformance() {
    # shellcheck disable=SC2086 # several cases
    "$SUITE" client --expect "$TABLE" --jobs 1 --timeout-ms 6000 --patience-ms 6000 $CASES \
        -- "$RELAY" "$port" >"$work/conformance.log" 2>&1
}
check conformance conformance
guest_go serving
guest_end

verdict conformance
