#!/bin/bash
# A short run of everything: that the bytes are right, that the ceiling was measured, and that the
# files are what they shall be. No speeds.
#
#     smoke_test.sh BENCH EMULATOR SCRIPT...
set -euo pipefail

bench=$1
emulator=$PWD/$2
shift 2
work=$(mktemp -d "${TEST_TMPDIR:-/tmp}/smoke.XXXXXX")
trap 'rm -rf "$work"' EXIT

fail() {
    echo "FAILED: $*"
    exit 1
}

devices=()
echo_script=
for script in "$@"; do
    devices+=(--emulate "$script")
    case $script in */echo.lua) echo_script=$script ;; esac
done

# status EXPECTED COMMAND... : the command ends with this status; its output is in $work/out.
status() {
    local expected=$1 status=0
    shift
    "$@" >"$work/out" 2>&1 || status=$?
    [ $status -eq "$expected" ] || {
        cat "$work/out"
        fail "status $status instead of $expected of: $*"
    }
}

run=("$bench" --seconds 0.02 --runs 3)

status 0 "${run[@]}" "${devices[@]}" --ceiling --size 64,512,64K --depth 1,16 \
    --json "$work/new.json" --html "$work/page.html"
cat "$work/out"
# A line of the ceiling under each of the server; the library beside the raw client at each depth.
[ "$(grep -cE '^(echo|echo_lua|sink|source) .* \| .* \| .* \| .* \| ' "$work/out")" -eq \
    "$(grep -c '^ *the ceiling |' "$work/out")" ] || fail "a figure has no ceiling"
grep -qE '^echo +64 KiB stream \| +[-0-9.]+ .* \(.*\) .* \(.*\)$' "$work/out" ||
    fail "the client library is not compared with the raw client"

python3 - "$work/new.json" <<'PYTHON'
import json
import sys

with open(sys.argv[1], encoding="utf-8") as file:
    run = json.load(file)
seen = set()
for series in run["series"]:
    name = "%s %s %d %d" % tuple(series[key] for key in ("device", "test", "size", "depth"))
    seen.add((series["device"], series["test"]))
    # On a busy machine one of these short runs may be over before a transfer has ended.
    for side in ("target", "ceiling"):
        assert series[side]["urbs_per_s"]["max"] > 0, name
        assert series[side]["server_rss_bytes"] > 0, name
        if series["depth"] > 0:
            latency = series[side]["latency_ns"]
            assert 0 < latency["p50"] <= latency["p99"] <= latency["max"], name
            assert abs(latency["p99_by_p50"] - latency["p99"] / latency["p50"]) < 0.01, name
            assert series["latency_ratio"]["p50"] > 0 and series["latency_ratio"]["p99"] > 0, name
    if series["ceiling"]["urbs_per_s"]["min"] > 0 and series["target"]["urbs_per_s"]["min"] > 0:
        assert series["ratio"]["max"] > 0 and series["cpu_ratio"]["max"] > 0, name
    # The client library beside the raw client, at each depth of that.
    ratios = series["client_ratios"]
    assert [ratio["depth"] for ratio in ratios] == [1, 16] * (series["test"] == "serial"), name
    assert all(ratio["cpu_ratio"]["max"] > 0 for ratio in ratios if ratio["cpu_ratio"]), name
expected = {("echo", "ping"), ("echo", "pipeline"), ("echo", "echo"), ("echo", "serial"),
            ("echo_lua", "echo"), ("echo_lua", "serial"), ("sink", "out"), ("source", "in")}
assert seen == expected, seen ^ expected
PYTHON

grep -q '<svg' "$work/page.html" || fail "the page has no pictures"
grep -q '</html>' "$work/page.html" || fail "the page has no end"
for text in 'At a glance' 'The client library' 'p99/p50' 'Ratio to the ceiling' 'Latency, depth 1'; do
    grep -q "$text" "$work/page.html" || fail "the page has no: $text"
done
! grep -nE 'https?:|//[a-z]|<script|@import|url\(' "$work/page.html" ||
    fail "the page wants something from elsewhere"

# A baseline that is far better, and one that is far worse.
python3 - "$work/new.json" "$work/better.json" "$work/worse.json" <<'PYTHON'
import json
import sys

for path, factor in ((sys.argv[2], 1e6), (sys.argv[3], 1e-6)):
    with open(sys.argv[1], encoding="utf-8") as file:
        run = json.load(file)
    run["series"] = [series for series in run["series"] if series["test"] == "ping"]
    run["server_cpu"] = run["client_cpu"] = None
    for series in run["series"]:
        series["ratio"] = None
        middle = series["target"]["urbs_per_s"]["median"] * factor
        series["target"]["urbs_per_s"] = dict(median=middle, min=middle, max=middle)
    with open(path, "w", encoding="utf-8") as file:
        json.dump(run, file)
PYTHON
ping=("${run[@]}" --emulate "$echo_script" --test ping)
status 1 "${ping[@]}" --baseline "$work/better.json"
grep -q LOSS "$work/out" || fail "the loss is not named"
status 0 "${ping[@]}" --baseline "$work/worse.json"
grep -q '1 of 1 figures compared, 0 losses' "$work/out" || fail "the figure was not compared"
status 2 "${ping[@]}" --baseline "$work/new.json" # with --ceiling it was on one core
grep -q 'other cores' "$work/out" || fail "it is not said that the cores are others"

# A longer link: no more can be in flight than the depth allows, and the relay loses nothing.
status 0 "${run[@]}" --emulate "$echo_script" --test echo --size 4K --depth 4 --delay-ms 4 \
    --connections 3 --json "$work/delay.json"
python3 - "$work/delay.json" <<'PYTHON'
import json
import sys

with open(sys.argv[1], encoding="utf-8") as file:
    series = json.load(file)["series"][0]
assert series["target"]["latency_ns"]["p50"] >= 4e6, series["target"]["latency_ns"]
assert series["connections"] == 3
PYTHON

# A device that sends back something else.
cat >"$work/wrong.lua" <<'LUA'
device { type = "cdc_acm", idVendor = 0x1209, idProduct = 0x000a }
local count = 0
function on_data(bytes)
    count = count + 1
    write(count == 100 and bytes:reverse() or bytes)
end
LUA
# serial sends a byte first, to see whether the far end is there.
for test in 'echo 6336' 'serial 6272'; do
    status 1 "${run[@]}" --emulate "$work/wrong.lua" --test "${test% *}" --size 64 --depth 1
    grep -q "byte ${test#* } of the stream is 0x.. instead of 0x.." "$work/out" || {
        cat "$work/out"
        fail "the wrong byte is not named"
    }
done

# A far end that is not there when the port is opened, as that of Linux's gadget.
cat >"$work/late.lua" <<'LUA'
device { type = "cdc_acm" }
local lost = 0
function on_data(bytes)
    lost = lost + 1
    if lost > 2 then
        write(bytes)
    end
end
LUA
status 0 "${run[@]}" --emulate "$work/late.lua" --test serial --size 64 --depth 1,2

# One that sends what nobody has sent.
cat >"$work/other.lua" <<'LUA'
device { type = "cdc_acm" }
function on_data(bytes)
    write("x")
end
LUA
status 1 "${run[@]}" --emulate "$work/other.lua" --test serial --size 64 --depth 1
grep -q '0x78 came back, and 0x00 to 0x00 had been sent' "$work/out" || {
    cat "$work/out"
    fail "the byte that was never sent is not named"
}

# What cannot run says so in a line, before anything is measured.
one_line() {
    status 2 "${run[@]}" "$@"
    [ "$(wc -l <"$work/out")" -eq 1 ] || {
        cat "$work/out"
        fail "not one line for: $*"
    }
}
touch "$work/empty.lua"
for arguments in "--size 0" "--size 64,64" "--depth x" "--depth 1,1" "--test all" "--seconds 0" \
    "--busid=" "--cpu server" "--cpu server=0,server=0" "--cpu server=0" "127.0.0.1:1" "one two" \
    "--baseline $work/none.json" "--emulator $emulator" "--emulate $echo_script --html $work/no/a" \
    "--emulate $echo_script --json $work" "--emulate $work/wrong.lua --test out" \
    "--emulate $work/none.lua" "--emulate $work/empty.lua" \
    "--emulate $echo_script --emulator $work/none"; do
    # shellcheck disable=SC2086 # several arguments
    one_line $arguments
done
one_line --cpu ''
one_line --size ''

[ "$("${run[@]}" --emulate "$echo_script" --test ping 2>&1 >/dev/full; echo $?)" = \
    "usbip-throughput: what was measured could not be printed
2" ] || fail "nobody noticed that nothing could be printed"

# The bench finds its emulator and its devices from any folder; `bazel run` tells the user's.
# Whether Bazel has made the folder beside the program yet is chance: this is one like it.
program=$work/built/usbip-throughput
mkdir -p "$program.runfiles" "$work/folder"
cp "$bench" "$program"
ln -s "$PWD" "$program.runfiles/usbip_testbench"
cd "$work/folder"
short=(--test ping --seconds 0.02 --runs 1)
status 0 "$program" --emulate "$echo_script" "${short[@]}"
cp "$program" "$work/alone"
cp "$OLDPWD/$echo_script" .
status 2 "$work/alone" --emulate echo.lua "${short[@]}"
grep -q 'give --emulator' "$work/out" || fail "it is not said that there is no emulator"
status 0 "$work/alone" --emulate echo.lua --emulator "$emulator" "${short[@]}"
cd /
status 0 env BUILD_WORKING_DIRECTORY="$work/folder" "$program" --emulate echo.lua "${short[@]}" \
    --json 'a file.json'
grep -q "'a file.json'" "$work/folder/a file.json" || fail "the command is not as one types it"
