#!/bin/bash
# Recordings of sessions as Wireshark sees them: our client, through usbip-record, to our emulator,
# recorded by each of the three.
#
# Arguments: usbip-emulator, usbip-record, usbip-serial, echo_acm.lua, echo_ftdi.lua.
set -u
emulator=$PWD/$1 record=$PWD/$2 serial=$PWD/$3 acm=$PWD/$4 ftdi=$PWD/$5
cd "$TEST_TMPDIR" || exit 1
export HOME=$PWD # where tshark looks for settings: there are none
failures=0

fail() {
    echo "FAILED: $*" >&2
    failures=$((failures + 1))
}

command -v tshark >/dev/null || {
    fail "tshark is missing: apt-get install --no-install-recommends tshark"
    exit 1
}

# equal WHAT GOT WANTED
equal() {
    [ "$2" = "$3" ] || fail "$1: got \"$2\", wanted \"$3\""
}

# start NAME COMMAND...: runs it in the background until it says where it listens. Sets $pid and
# $address.
start() {
    local name=$1 line
    shift
    mkfifo "$name.out"
    "$@" >"$name.out" 2>"$name.err" &
    pid=$!
    exec {output}<"$name.out"
    address=
    while read -r -t 60 -u "$output" line; do
        [[ $line == "listening on "* ]] && address=${line#listening on } && return
    done
    fail "$*: it does not listen: $(cat "$name.err")"
    exit 1
}

# stop PID STATUS
stop() {
    kill -TERM "$1"
    wait "$1"
    equal "exit status" $? "$2"
}

columns=(frame.number usb.urb_type usb.urb_id usb.src usb.dst usb.device_address
    usb.endpoint_address usb.transfer_type usb.urb_status usb.urb_len usb.data_len usb.interval
    usb.setup.wLength usb.capdata usb.idVendor usb.idProduct usb.bEndpointAddress
    usbcom.control.request_code usbcom.descriptor.subtype ftdi-ft.bRequest ftdi-ft.modem_status
    ftdi-ft.if_a_tx_payload ftdi-ft.if_a_rx_payload frame.protocols _ws.malformed)

# dissect FILE: tshark's view of it, in FILE.tsv: a line for each packet.
dissect() {
    local column arguments=()
    for column in "${columns[@]}"; do arguments+=(-e "$column"); done
    tshark -n -r "$1" -T fields "${arguments[@]}" >"$1.tsv" 2>tshark.err ||
        fail "tshark $1: $(cat tshark.err)"
    [ -s "$1.tsv" ] || fail "$1: it is empty"
}

# fields FILE CONDITION FIELD...: these fields of the packets for which the condition holds: one of
# awk, in which the fields are named as tshark names them, with _ in place of . and -.
fields() {
    local file=$1 condition=$2 names=() i
    shift 2
    for i in "${!columns[@]}"; do names+=("${columns[i]//[.-]/_}=\$$((i + 1))"); done
    awk -F'\t' "$(printf '{%s' "$(printf '%s;' "${names[@]}")")} $condition \
        {print $(printf '%s ' "${@//[.-]/_}" | sed 's/ \(.\)/ "\\t" \1/g')}" "$file.tsv"
}

# The values of one field, each once, sorted, on one line.
values() {
    fields "$@" | tr ',' '\n' | sort -u | tr '\n' ' '
}

# sequence FILE CONDITION FIELD: the values of a field in their order, on one line.
sequence() {
    fields "$@" | tr '\n' ' '
}

is_submit='usb_urb_type == "'\''S'\''"'
is_complete='usb_urb_type == "'\''C'\''"'

# check_file FILE: what holds for every recording.
check_file() {
    dissect "$1"
    equal "$1: malformed packets" "$(fields "$1" '_ws_malformed' frame.number)" ""
    equal "$1: frames that are no URBs" "$(fields "$1" 'frame_protocols !~ /^usb/' frame.number)" ""
    [ "$(fields "$1" "$is_submit" usb.urb_id | wc -l)" -ge 20 ] || fail "$1: only few URBs"
    equal "$1: completions" "$(fields "$1" "$is_complete" usb.urb_id | sort)" \
        "$(fields "$1" "$is_submit" usb.urb_id | sort)"
    equal "$1: ids used twice" "$(fields "$1" "$is_submit" usb.urb_id | sort | uniq -d)" ""
}

check_acm() {
    local file=$1 device='usb_device_address == 1'
    equal "$file: CDC-ACM ids" \
        "$(fields "$file" "$device && usb_idVendor" usb.idVendor usb.idProduct)" $'0x1209\t0x0001'
    equal "$file: CDC-ACM endpoints" \
        "$(values "$file" "$device && usb_bEndpointAddress" usb.bEndpointAddress)" "0x01 0x81 0x82 "
    equal "$file: CDC-ACM sources" "$(values "$file" "$device" usb.src)" "1.1.0 1.1.1 1.1.2 host "
    equal "$file: CDC-ACM destinations" "$(values "$file" "$device" usb.dst)" \
        "1.1.0 1.1.1 1.1.2 host "
    equal "$file: CDC-ACM transfer types" \
        "$(fields "$file" "$device" usb.endpoint_address usb.transfer_type | sort -u)" \
        $'0x00\t0x02\n0x01\t0x03\n0x80\t0x02\n0x81\t0x03\n0x82\t0x01'
    # SET_LINE_CODING, then SET_CONTROL_LINE_STATE at open and close.
    equal "$file: CDC requests" \
        "$(sequence "$file" "$device && usbcom_control_request_code" usbcom.control.request_code)" \
        "0x20 0x22 0x22 "
    equal "$file: CDC functional descriptors" \
        "$(sequence "$file" "$device && usbcom_descriptor_subtype" usbcom.descriptor.subtype)" \
        "0x00,0x02,0x01,0x06 "
    equal "$file: CDC-ACM data" "$(sequence "$file" "$device && usb_capdata" usb.capdata)" \
        "68656c6c6f0a 68656c6c6f0a "
    # The IN transfers that waited at the end were taken back.
    [ "$(fields "$file" "$device && usb_urb_status == -104" usb.urb_id | wc -l)" -ge 2 ] ||
        fail "$file: no unlinked URBs"
}

check_ftdi() {
    local file=$1 device='usb_device_address == 2'
    equal "$file: FTDI ids" \
        "$(fields "$file" "$device && usb_idVendor" usb.idVendor usb.idProduct)" $'0x0403\t0x6001'
    equal "$file: FTDI endpoints" \
        "$(values "$file" "$device && usb_bEndpointAddress" usb.bEndpointAddress)" "0x02 0x81 "
    equal "$file: FTDI sources" "$(values "$file" "$device" usb.src)" "1.2.0 1.2.1 1.2.2 host "
    equal "$file: FTDI transfer types" \
        "$(fields "$file" "$device" usb.endpoint_address usb.transfer_type | sort -u)" \
        $'0x00\t0x02\n0x02\t0x03\n0x80\t0x02\n0x81\t0x03'
    # Reset, modem lines, flow control, rate, format, latency timer.
    equal "$file: FTDI requests" \
        "$(values "$file" "$device && ftdi_ft_bRequest != \"\"" ftdi-ft.bRequest)" "0 1 2 3 4 9 "
    equal "$file: FTDI sent" \
        "$(sequence "$file" "$device && ftdi_ft_if_a_tx_payload" ftdi-ft.if_a_tx_payload)" \
        "68656c6c6f0a "
    equal "$file: FTDI received" \
        "$(fields "$file" "$device" ftdi-ft.if_a_rx_payload | tr -d '\n')" "68656c6c6f0a"
    [ -n "$(fields "$file" "$device && ftdi_ft_modem_status" ftdi-ft.modem_status)" ] ||
        fail "$file: no FTDI status bytes"
}

# What all recorders of one session must agree upon, whenever they see it.
summary() {
    fields "$1" "usb_device_address == $2" usb.urb_type usb.endpoint_address usb.transfer_type \
        usb.urb_status usb.urb_len usb.data_len usb.interval usb.setup.wLength usb.capdata \
        ftdi-ft.if_a_rx_payload | sort
}

# hello ADDRESS DEVICE [OPTION...]: sends a line and compares the echo.
hello() {
    local host=$1 device=$2
    shift 2
    equal "echo of $device" \
        "$("$serial" --host "$host" send --baud '9600 7E2' --read "$@" "$device" 'hello\n' 2>&1)" hello
}

# ---- One session for each device, three recorders ----

start emulator "$emulator" --listen 127.0.0.1:0 --record emulator.pcap "$acm" "$ftdi"
emulator_pid=$pid emulator_address=$address
start relay "$record" --listen 127.0.0.1:0 --upstream "$emulator_address" relay.pcap
equal "devices through the relay" "$("$serial" --host "$address" list)" \
    "$("$serial" --host "$emulator_address" list)"
hello "$address" 1-1 --record client_acm.pcap
hello "$address" 1-2 --record client_ftdi.pcap
stop "$pid" 0
stop "$emulator_pid" 0
equal "messages" "$(cat emulator.err relay.err | grep -v -e attached -e detached)" ""

for file in emulator.pcap relay.pcap client_acm.pcap client_ftdi.pcap; do
    check_file $file
done
check_acm emulator.pcap
check_acm relay.pcap
check_acm client_acm.pcap
check_ftdi emulator.pcap
check_ftdi relay.pcap
check_ftdi client_ftdi.pcap
equal "emulator and relay, CDC-ACM" "$(summary emulator.pcap 1)" "$(summary relay.pcap 1)"
equal "emulator and client, CDC-ACM" "$(summary emulator.pcap 1)" "$(summary client_acm.pcap 1)"
equal "emulator and relay, FTDI" "$(summary emulator.pcap 2)" "$(summary relay.pcap 2)"
equal "emulator and client, FTDI" "$(summary emulator.pcap 2)" "$(summary client_ftdi.pcap 2)"

# ---- A file for each device, of a recorder that is killed ----

rm -f ./*.out
start emulator "$emulator" --listen 127.0.0.1:0 "$acm" "$ftdi"
emulator_pid=$pid emulator_address=$address
start relay "$record" --listen 127.0.0.1:0 --upstream "$emulator_address" --per-device each.pcap
hello "$address" 1-1
hello "$address" 1-2
kill -KILL "$pid"
wait "$pid" 2>/dev/null
equal "files" "$(echo each*)" "each-1-1.pcap each-1-2.pcap"
check_file each-1-1.pcap
check_file each-1-2.pcap
check_acm each-1-1.pcap
check_ftdi each-1-2.pcap
equal "devices of each-1-1.pcap" "$(values each-1-1.pcap 1 usb.device_address)" "1 "
equal "devices of each-1-2.pcap" "$(values each-1-2.pcap 1 usb.device_address)" "2 "

# ---- No room for the file ----

rm -f relay.out
start relay bash -c "trap '' XFSZ; ulimit -f 2; exec \"\$@\"" - \
    "$record" --listen 127.0.0.1:0 --upstream "$emulator_address" full.pcap
hello "$address" 1-1
hello "$address" 1-2
stop "$pid" 1
equal "messages of a full disk" "$(cat relay.err)" \
    "usbip-record: cannot write full.pcap: File too large; the recording ends there"
dissect full.pcap
equal "full.pcap: malformed packets" "$(fields full.pcap _ws_malformed frame.number)" ""
stop "$emulator_pid" 0

[ $failures -eq 0 ] && echo "passed"
exit $((failures > 0))
