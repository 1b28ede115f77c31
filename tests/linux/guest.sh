# shellcheck shell=bash
#
# The host's half of a test in a Linux guest: a library for bash scripts, sourced.
#
# guest_boot starts QEMU with Debian's kernel, an initramfs and one scenario script, which init.sh
# runs as the guest's only program. No root and no KVM are needed; the guest is up in two seconds.
# The two halves talk in lines (see init.sh) through the guest's second serial port, so that each
# waits for the other and never for a length of time. The guest reaches this machine's 127.0.0.1
# as 10.0.2.2; port 3240 of the guest is a free port of this machine, see guest_port.
#
# A test passes when its script gets through guest_end and verdict: the guest came to its scenario's end,
# and every check that verdict names was made, in the guest or in the script, and none failed. Whatever
# else ends the script is a failure, and prints the guest's console and the output of all background
# programs.
#
# To see the console of one test, passed or not, while it runs:
#     bazel test --test_output=streamed --nocache_test_results --test_env=GUEST_VERBOSE=1 \
#         //tests/linux:NAME
# After any test, its console is in bazel-testlogs/tests/linux/NAME/test.outputs/outputs.zip.

set -euo pipefail

work=$(mktemp -d "${TEST_TMPDIR:-/tmp}/guest.XXXXXX")
deadline=$((SECONDS + ${GUEST_TIMEOUT:-120})) # a hard limit, far above what a test takes
checks=$work/checks                           # lines "NAME ok" and "NAME FAILED why"
notes=$work/notes                             # what the guest said with NOTE
ended=
failed=
passed=
qemu_pid=
declare -A background=() # process ids by name
touch "$checks" "$notes"

say() {
    echo "host: $*"
}

fail() {
    say "FAILED: $*"
    failed=1
    exit 1
}

# check NAME COMMAND... : one check, which holds when the command's status is 0.
check() {
    local name=$1 status=0
    shift
    "$@" || status=$?
    if [ $status -eq 0 ]; then
        record "$name" ok
    else
        record "$name" FAILED "status $status of: $*"
    fi
}

record() {
    say "check $*"
    echo "$*" >>"$checks"
}

# eventually COMMAND... : polls until the command's status is 0, fails the test at its deadline.
eventually() {
    until "$@"; do
        [ $SECONDS -lt "$deadline" ] || fail "time is up, waiting for: $*"
        sleep 0.05
    done
}

running() {
    kill -0 "$1" 2>/dev/null
}

# start NAME COMMAND... : runs the command in the background, its output in $work/NAME.log.
start() {
    local name=$1
    shift
    : >"$work/$name.log"
    "$@" >>"$work/$name.log" 2>&1 </dev/null &
    background[$name]=$!
}

# await_line NAME FILE PATTERN : waits until the file has a line that matches as a whole, for as long as
# the background program NAME lives.
await_line() {
    eventually has_line_or_ended "$@"
    grep -qsxE "$3" "$2" || fail "$1 has ended without a line '$3'"
}

has_line_or_ended() {
    grep -qsxE "$3" "$2" || ! running "${background[$1]}"
}

# start_server NAME PORT_FILE COMMAND... : starts a server and sets $port when it has written that to the
# file.
start_server() {
    local name=$1 file=$2
    shift 2
    start "$name" "$@"
    await_line "$name" "$file" '[0-9]+'
    port=$(cat "$file")
    say "$name listens on port $port"
}

# in_order FILE PATTERN... : whether the file has lines with these patterns in this order. There may be
# others between them.
in_order() {
    local file=$1 each
    shift
    while [ $# -gt 0 ] && IFS= read -r each; do
        if [[ $each =~ $1 ]]; then
            shift
        fi
    done <"$file"
    [ $# -eq 0 ] || say "$(basename "$file") does not have, in its place: $1"
    [ $# -eq 0 ]
}

# stop NAME [SIGNAL] : ends a background program and returns its exit status.
stop() {
    local pid=${background[$1]}
    unset "background[$1]"
    kill "-${2:-TERM}" "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null
}

clean_up() {
    local status=$? name
    set +e
    [ -n "$passed" ] || failed=1
    for name in "${!background[@]}"; do
        kill "${background[$name]}" 2>/dev/null
    done
    [ -z "$qemu_pid" ] || kill -KILL "$qemu_pid" 2>/dev/null
    wait 2>/dev/null
    if [ -n "$failed" ]; then
        for log in "$work"/*.log; do
            echo "--------- $(basename "$log" .log)"
            cat "$log"
        done
        echo "---------"
        [ $status -ne 0 ] || status=1
        say "the test FAILED"
    fi
    [ -z "${TEST_UNDECLARED_OUTPUTS_DIR:-}" ] || cp "$work"/*.log "$TEST_UNDECLARED_OUTPUTS_DIR"
    rm -rf "$work"
    exit $status
}
trap clean_up EXIT
trap 'exit 1' INT TERM

# guest_boot [VARIABLE=VALUE...] [-- QEMU_OPTION...] : the variables reach the scenario. When
# $guest_forward is set, as in "tcp:10.0.2.100:1-chardev:line", connections of the guest to there go to
# that character device of QEMU's.
guest_boot() {
    local variables=()
    while [ $# -gt 0 ] && [ "$1" != -- ]; do
        variables+=("$1")
        shift
    done
    [ $# -eq 0 ] || shift

    # The kernel unpacks one archive after the other.
    "$GUEST_CPIO" "$work/scenario.cpio" /init="$GUEST_INIT" /scenario.sh="$GUEST_SCENARIO" \
        /bin/guest_tool="$GUEST_TOOL"
    cat "$GUEST_INITRAMFS" "$work/scenario.cpio" >"$work/initramfs"

    # A pipe of QEMU's is a pair of FIFOs: it reads what comes through .in, writes to .out.
    mkfifo "$work"/{control,monitor}.{in,out}
    exec {control_in}<>"$work/control.in" {control_out}<>"$work/control.out" \
        {monitor_in}<>"$work/monitor.in" {monitor_out}<>"$work/monitor.out"
    : >"$work/console.log"

    # shellcheck disable=SC2054 # the commas are QEMU's
    local options=(
        # The smaller machine "microvm" was tried and does not get through a boot.
        -M pc -accel tcg,thread=multi -cpu qemu64 -m 256
        -nodefaults -display none -no-reboot
        -kernel "$GUEST_VMLINUX" -initrd "$work/initramfs"
        # A panic restarts at once, which ends QEMU. The options about clocks skip checks that fail
        # when this machine is busy and the guest sees time jump.
        -append "console=ttyS0 quiet panic=-1 mitigations=off nokaslr tsc=reliable no_timer_check \
rdinit=/init ${variables[*]}"
        -chardev "file,id=console,path=$work/console.log" -device "isa-serial,chardev=console"
        -chardev "pipe,id=control,path=$work/control" -device "isa-serial,chardev=control"
        -chardev "pipe,id=monitor,path=$work/monitor" -mon "chardev=monitor,mode=readline"
        # Port 0 is whichever is free; the monitor knows which one it became.
        -netdev "user,id=net,hostfwd=tcp:127.0.0.1:0-:3240${guest_forward:+,guestfwd=$guest_forward}"
        -device "virtio-net-pci,netdev=net,romfile="
        "$@"
    )
    "$GUEST_QEMU" "${options[@]}" </dev/null >"$work/qemu.log" 2>&1 &
    qemu_pid=$!
    if [ -n "${GUEST_VERBOSE:-}" ]; then
        tail -f --pid=$qemu_pid "$work/console.log" &
    fi
}

# Reads one line from a file descriptor into $line.
read_line() {
    local part was_running
    line=
    while [ $SECONDS -lt "$deadline" ]; do
        # Asked first: what QEMU said before it ended is there to be read.
        was_running=
        running "$qemu_pid" && was_running=1
        # At a time-out, read leaves what there is of the line.
        if IFS= read -r -t 1 -u "$1" part; then
            line+=$part
            return
        fi
        line+=$part
        [ -n "$was_running" ] || fail "QEMU has ended, and the guest was not done"
    done
    fail "time is up, waiting for the guest"
}

qemu_has_ended() {
    ! running "$qemu_pid"
}

# guest_expect LINE : reads what the guest has to say until it says this.
guest_expect() {
    while read_line "$control_out"; do
        say "guest says: $line"
        case $line in
        "CHECK "*) echo "${line#CHECK }" >>"$checks" ;;
        "NOTE "*) echo "${line#NOTE }" >>"$notes" ;;
        FAILED*)
            eventually qemu_has_ended # the kernel's last messages come after that
            fail "the scenario gave up"
            ;;
        "$1") return ;;
        *) fail "that is not what was to come: $1" ;;
        esac
    done
}

# guest_await NAME : waits for the scenario to come to its `meet NAME`, where it waits for guest_go.
guest_await() {
    guest_expect "AT $1"
}

# guest_go NAME : lets the scenario go on.
guest_go() {
    echo "GO $1" >&"$control_in"
}

# guest_port : sets $port to the port of 127.0.0.1 that is the guest's port 3240.
guest_port() {
    echo "info usernet" >&"$monitor_in"
    while read_line "$monitor_out"; do
        if [[ $line =~ HOST_FORWARD.*127\.0\.0\.1\ +([0-9]+)\ +10\.0\.2\.15\ +3240 ]]; then
            # The test's own script reads it.
            # shellcheck disable=SC2034
            port=${BASH_REMATCH[1]}
            return
        fi
    done
}

# guest_end : waits for the scenario's end.
guest_end() {
    guest_expect DONE
    eventually qemu_has_ended
    ended=1
}

# verdict CHECK... : the end of the test. The names are all checks that must have been made, so that one
# that was never reached is a failure as well.
verdict() {
    local name result
    [ -n "$ended" ] || fail "the guest has not ended"
    for name in "$@"; do
        grep -q "^$name " "$checks" || record "$name" FAILED "never made"
    done
    while read -r name result; do
        [ "$result" = ok ] || { say "FAILED: $name: $result"; failed=1; }
    done <"$checks"
    [ -z "$failed" ] || exit 1
    passed=1
    say "all $(wc -l <"$checks") checks are ok"
}
