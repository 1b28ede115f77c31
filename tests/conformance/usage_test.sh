#!/bin/bash
# Wrong usage of usbip-conformance, each told in one line with exit status 2, and a run that is interrupted.
#
# Arguments: the suite, the emulator and a device.
set -u

suite=$1
emulator=$PWD/$2
device=$3
failed=0

# expect TEXT ARGUMENT... : status 2, and the text is in what is printed.
expect() {
    local text=$1 output got
    shift
    output=$("$suite" "$@" 2>&1)
    got=$?
    if [ $got -ne 2 ] || ! grep -qF -- "$text" <<<"$output"; then
        echo "FAILED: $*"
        echo "  status $got, and '$text' is to be in:"
        echo "$output"
        failed=1
    fi
}

expect "S999 is no case" 127.0.0.1 S999
expect "is no case and no HOST[:PORT]" 127.0.0.1:
expect "is no case and no HOST[:PORT]" '[::1]:'
expect "is no case and no HOST[:PORT]" "$(printf 'x%.0s' {1..300})"
expect "-1:2 is not VID:PID" --device -1:2
expect "12345:1 is not VID:PID" --device 12345:1
expect "is not a list of core" --profile core,quick
expect "is not a number of milliseconds" --timeout-ms 0
expect "missing.txt: No such file" --expect missing
expect "--emulator-option needs --emulate" --emulator-option=--virtual-time
expect "--jobs needs --emulate" --jobs 2
expect "cannot start /missing/program" --emulate "$device" --emulator /missing/program
expect "cannot open /missing.lua" --emulate /missing.lua --emulator "$emulator"
echo "S999 CLOSE" >"$TEST_TMPDIR/table.txt"
expect "S999 has a line in the table, and is no case" --expect "$TEST_TMPDIR/table.txt"
printf 'S001 ok\n\0S057 CLOSE\n' >"$TEST_TMPDIR/table.txt"
expect "is no text" --expect "$TEST_TMPDIR/table.txt"

# Neither the emulator nor its socket stays behind.
cat >"$TEST_TMPDIR/emulator" <<END
#!/bin/bash
printf '%s\n' "\$@" | sed -n '/--control/{n;p}' >"$TEST_TMPDIR/control"
echo \$\$ >"$TEST_TMPDIR/pid.new"
mv "$TEST_TMPDIR/pid.new" "$TEST_TMPDIR/pid"
exec "$emulator" "\$@"
END
chmod +x "$TEST_TMPDIR/emulator"
"$suite" --emulate "$device" --emulator "$TEST_TMPDIR/emulator" --rounds 1000000 >/dev/null 2>&1 &
run=$!
until [ -s "$TEST_TMPDIR/pid" ]; do sleep 0.01; done
kill -TERM $run
wait $run
got=$?
[ $got -eq 143 ] || { echo "FAILED: an interrupted run has status $got"; failed=1; }
while kill -0 "$(cat "$TEST_TMPDIR/pid")" 2>/dev/null; do sleep 0.01; done
folder=$(dirname "$(cat "$TEST_TMPDIR/control")")
[[ $folder == /tmp/usbip-conformance.* && ! -e $folder ]] || { echo "FAILED: $folder stays"; failed=1; }

exit $failed
