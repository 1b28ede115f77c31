#!/bin/bash
# The kernel of a Linux guest is the client: its vhci_hcd and ftdi_sio attach to an FT2232H of our emulator.

# shellcheck source=tests/linux/guest.sh
. "$GUEST_LIBRARY"

start_server emulator "$work/port" "$EMULATOR" --listen 127.0.0.1:0 --port-file "$work/port" "$SCRIPT"

guest_boot "usbip_port=$port"
guest_end
check emulator_ends stop emulator

# What the script was told, as it logged it.
told() {
    in_order "$work/emulator.log" "${@/#/^1-1: }"
}

not_told() {
    ! grep -E "^1-1: $1" "$work/emulator.log"
}

check told_probe told 'latency 16 port 1$' 'latency 16 port 2$'
check told_settings told 'coding 9600 7E2 port 1$' 'coding 250000 8O1 port 2$' \
    'coding 3000000 8N1 port 1$' 'coding 300 7N1 port 2$'
check told_lines told 'lines true false port 2$' 'lines false false port 2$' 'lines false true port 2$' \
    'lines true true port 2$' 'lines true false port 2$' 'lines false false port 1$'
check told_latency told 'latency 5 port 2$' 'latency 16 port 1$' 'latency 5 port 2$'
check told_break told 'break start port 2$' 'break stop port 2$'
check first_port_has_no_break not_told 'break .* port 1$'
check first_port_keeps_rts not_told 'lines true false port 1$'

verdict attach who settings lines latency break echo_both detach attach_again who_again detach_again \
    emulator_ends told_probe told_settings told_lines told_latency told_break \
    first_port_has_no_break first_port_keeps_rts
