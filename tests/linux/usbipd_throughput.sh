#!/bin/bash
# The bench against the real usbipd of a Linux guest and Linux's own CDC-ACM device. QEMU emulates the
# processor too, so the figures are of that; the bytes are checked all the same.

# shellcheck source=tests/linux/guest.sh
. "$GUEST_LIBRARY"

bench() {
    "$BENCH" "127.0.0.1:$port" --busid 1-1 --ceiling --size 64,512,4K --depth 1,8 "$@"
}

guest_boot
guest_await serving
guest_port
check throughput bench --test ping,pipeline,echo,serial
guest_go serving
guest_await ready
guest_go ready
guest_end
verdict throughput
