#!/bin/sh
# The first program of the guest. Sets up what every scenario needs, offers it the functions below,
# runs it, reports and powers off. All programs come from busybox, whose shell finds them in itself.
#
# The scenario's output and its trace end up on the console. What there is to say to the test on the
# host goes line by line through the second serial port:
#
#   AT name                the scenario has come this far, and waits for "GO name"
#   CHECK name ok          something that was to be found out holds
#   CHECK name FAILED why  it does not; the scenario goes on
#   NOTE text              something for the test on the host to look at
#   DONE                   the scenario came to its end
#   FAILED status          it did not: a command failed that was no check

control=/dev/ttyS1

say() {
    echo "$*" >&3
    echo "guest: $*"
}

# check NAME COMMAND... : one check, which holds when the command's status is 0.
check() {
    check_name=$1
    shift
    if "$@"; then
        say "CHECK $check_name ok"
    else
        say "CHECK $check_name FAILED status $? of: $*"
    fi
}

# eventually COMMAND... : polls until the command's status is 0. The limit is no expectation about
# speed: it is there so that the console shows what was waited for before the host's patience ends.
eventually() {
    set +x # all tries look alike
    tries=0
    until "$@"; do
        tries=$((tries + 1))
        if [ $tries -eq 1000 ]; then
            echo "guest: in vain: $*"
            set -x
            return 1
        fi
        usleep 50000
    done
    set -x
}

# meet NAME : tells the host that this point is reached and waits until the host says to go on.
meet() {
    say "AT $1"
    read -r answer <&3
    [ "$answer" = "GO $1" ]
}

# serve_usbip BUSID : exports a device with the real usbipd.
serve_usbip() {
    eventually [ -e "/sys/bus/usb/devices/$1/idVendor" ]
    usbip bind -b "$1"
    usbipd &
    eventually listening
}

listening() {
    netstat -ltn | grep -q :3240
}

finish() {
    status=$?
    set +ex
    if [ $status -eq 0 ]; then
        say DONE
    else
        say "FAILED $status"
    fi
    echo "guest: the last messages of the kernel:"
    dmesg | tail -n 60
    # Closing waits until all is sent.
    exec 3>&-
    # QEMU is told to end at a reset; that needs no power management here.
    reboot -f
}

/bin/busybox mount -t proc none /proc # the shell reaches its programs through /proc/self/exe
mount -t devtmpfs none /dev
mount -t sysfs none /sys
mkdir -p /var/run # usbip notes there what it attached

stty -F $control raw -echo
exec 3<>$control
trap finish EXIT
set -ex

modprobe -a virtio_pci virtio_net
ip link set lo up
ip link set eth0 up
ip address add 10.0.2.15/24 dev eth0
ip route add default via 10.0.2.2

# The kernel puts variables of its command line into the environment.
# shellcheck disable=SC1091
. /scenario.sh
