#!/usr/bin/env python3
"""Breaks the emulator on purpose, one way at a time, and says which cases of the suite notice.

    ./bazelw build //tests/conformance:usbip-conformance
    python3 tests/conformance/mutate.py

With --check it only looks whether that can be done: whether each text to change stands where it is
looked for, and whether the emulator builds. Each mutation is one place in the sources; the mutated emulator is built with cc in a temporary folder
and run through the profiles strict and hostile. Exit status 1 when one of them goes unnoticed.
"""
import glob
import json
import os
import shutil
import subprocess
import sys
import tempfile

SESSION, URB, DEVICE = "emulator/session.c", "emulator/urb.c", "emulator/device.c"
CHAPTER9 = "emulator/chapter9.c"
RAW, BUS, WIRE = "emulator/raw.c", "emulator/bus.c", "protocol/usbip.c"

# What is broken, where, and how: text that stands there once, and what takes its place.
MUTATIONS = [
    ("the echo of seqnum is off by one", SESSION,
     "usbip_encode_ret_submit(header, urb->seqnum,",
     "usbip_encode_ret_submit(header, urb->seqnum + 1,"),
    ("replies carry the devid", SESSION,
     "    if (personality->echoes_header)\n        usbip_encode_target(header,",
     "    if (true)\n        usbip_encode_target(header,"),
    ("number_of_packets is not echoed", SESSION,
     "actual_length, urb->number_of_packets);", "actual_length, 7);"),
    ("the padding of RET_SUBMIT is not zero", WIRE,
     "    store_be_signed(out + RETURN_NUMBER_OF_PACKETS, number_of_packets);",
     "    store_be_signed(out + RETURN_NUMBER_OF_PACKETS, number_of_packets);\n    out[47] = 1;"),
    ("an error loses its payload, not its actual_length", SESSION,
     "    struct usbip_output_piece loan =",
     "    payload_size = status != 0 ? 0 : payload_size;\n"
     "    struct usbip_output_piece loan ="),
    ("actual_length of OUT is always 0", SESSION,
     "status, actual_length, urb->number_of_packets);",
     "status, urb->direction == USBIP_DIR_IN ? actual_length : 0, urb->number_of_packets);"),
    ("the reply to OUT carries its data", SESSION,
     "    size_t size = USBIP_HEADER_SIZE + (lent ? 0 : payload_size);",
     "    size_t size = USBIP_HEADER_SIZE + (lent ? 0 :\n"
     "        urb->direction == USBIP_DIR_OUT && actual_length < 64 ? actual_length : payload_size);"),
    ("a URB that was unlinked is answered all the same", URB,
     "    bool was_control = urb == device->control;\n    retire(device, urb);\n"
     "    if (was_control)\n        run_control(device);\n    return true;",
     "    return true;"),
    ("RET_UNLINK says 0 for a URB that was waiting", SESSION,
     "waited ? personality->unlinked_status : 0,", "0,"),
    ("RET_UNLINK says -ECONNRESET for a URB that was done", SESSION,
     "waited ? personality->unlinked_status : 0,", "personality->unlinked_status,"),
    ("unlinking ends the first URB, whichever was named", URB,
     "if (urb->seqnum == seqnum && !urb->unlinked)", "if (urb->endpoint && !urb->unlinked)"),
    ("an IN transfer without data ends at once", URB,
     "while (device->personality->ends_idle_in &&", "while (true &&"),
    ("URBs of an endpoint end in reverse", URB,
     "    return queue->first;\n}", "    return endpoint & USB_DIR_IN ? queue->last : queue->first;\n}"),
    ("a halt ends the transfers that wait, and is forgotten", URB,
     "    queue->halted = true;", "    queue->halted = false;"),
    ("CLEAR_FEATURE(ENDPOINT_HALT) has no effect", URB,
     "    device->endpoints[usbip_endpoint_index(endpoint)].halted = false;\n}", "    (void)device, (void)endpoint;\n}"),
    ("SHORT_NOT_OK is ignored", URB,
     "    if (in && status == 0 && actual_length < urb->length &&", "    if (false && in && actual_length < urb->length &&"),
    ("babble is no error", URB,
     "whole + lost, personality->babble_status};", "whole + lost, 0};"),
    ("a configuration that does not exist is accepted", CHAPTER9,
     "    if (value != 0 && value != device->configuration->descriptor.bConfigurationValue",
     "    if (false && value != device->configuration->descriptor.bConfigurationValue"),
    ("GET_STATUS of an endpoint stalls", CHAPTER9,
     "        known = endpoint_exists(device, setup->wIndex);", "        known = false;"),
    ("SET_INTERFACE leaves the endpoints as they were", CHAPTER9,
     "    enable_endpoints(device, setting);\n    accept(urb);", "    accept(urb);"),
    ("a device that is in use is given to a second client", DEVICE,
     "    return device->session    ? device->personality->busy_status",
     "    return device->session    ? USBIP_ST_OK"),
    ("a client that is gone keeps its device", DEVICE,
     "    device->session = NULL;\n    if (device->behaviour.ops->detach)",
     "    if (device->behaviour.ops->detach)"),
    ("the next client finds the endpoints of the last one", DEVICE,
     "    memset(device->endpoints, 0, sizeof device->endpoints);\n    memset(device->alternate",
     "    memset(device->alternate"),
    ("an unplugged device keeps its connection", DEVICE,
     "    if (device->session)\n        usbip_device_session_disconnect(device->session, \"unplugged\");", ""),
    ("a refused import has a body", SESSION,
     "    if (append_op_common(session, OP_REP_IMPORT, status) < 0)\n        return -1;\n    return end_op",
     "    if (append_op_common(session, OP_REP_IMPORT, status) < 0 || append(session, busid, 8) < 0)\n"
     "        return -1;\n    return end_op"),
    ("every version is accepted", SESSION,
     "    return version == USBIP_VERSION ||", "    return true || version == USBIP_VERSION ||"),
    ("a foreign devid is accepted", SESSION,
     "    if (header->devid != session->devid && ", "    if (false && "),
    ("the list announces a device too many", SESSION,
     "    usbip_store_be32(bytes, count);", "    usbip_store_be32(bytes, count + 1);"),
    ("interfaces in the list have a pad byte that is not zero", WIRE,
     "out[3] = 0;", "out[3] = 1;"),
    ("a transfer over 4096 bytes loses its last byte", RAW,
     "behaviour->ops->out(behaviour->context, endpoint, urb->data, length);",
     "behaviour->ops->out(behaviour->context, endpoint, urb->data, length - (length > 4096));"),
]


SUITE = "bazel-bin/tests/conformance/usbip-conformance"
DEVICES = ["tests/conformance/device.lua", "tests/conformance/second.lua"]
ROOMS = ["capture", "emulator", "protocol"]
OTHER_PROGRAMS = ["capture/record_main.c"]
LIBRARIES = ["libuv", "liburing", "lua5.4", "jansson", "libpcap", "zlib"]
RUN_LIMIT_S = 300


def flags_of(kind):
    return subprocess.run(["pkg-config", kind, *LIBRARIES], check=True, text=True,
                          capture_output=True).stdout.split()


def compile_source(folder, path, flags):
    subprocess.run(["cc", "-std=c11", "-O1", "-D_GNU_SOURCE", "-w", "-I", folder, *flags, "-c",
                    "-o", f"{folder}/{path}.o", f"{folder}/{path}"], check=True)


def link(folder, sources, program):
    subprocess.run(["cc", "-o", program, *(f"{folder}/{path}.o" for path in sources),
                    *flags_of("--libs")], check=True)


def run_suite(program, report):
    """Returns the cases that are not as expected, or None when the suite itself did not end."""
    devices = [word for device in DEVICES for word in ("--emulate", device)]
    command = [SUITE, "--emulator", program, *devices, "--profile", "strict,hostile", "--expect",
               "strict", "--timeout-ms", "500", "--json", report]
    if os.path.exists(report):
        os.remove(report)
    try:
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                       timeout=RUN_LIMIT_S, check=False)
        with open(report, encoding="utf-8") as file:
            return [case["id"] for case in json.load(file)["cases"] if not case["as_expected"]]
    except (subprocess.TimeoutExpired, FileNotFoundError):
        return None


def check_texts():
    for number, (what, path, old, _) in enumerate(MUTATIONS, 1):
        with open(path, encoding="utf-8") as file:
            count = file.read().count(old)
        if count != 1:
            sys.exit(f"mutation {number} ({what}): its text stands {count} times in {path}, not once")


def build(folder, program):
    """Copies the sources to the folder and builds them there. Returns their paths."""
    flags = flags_of("--cflags")
    sources = sorted(path for room in ROOMS for path in glob.glob(f"{room}/**/*.c", recursive=True)
                     if path not in OTHER_PROGRAMS)
    for room in ROOMS:
        shutil.copytree(room, f"{folder}/{room}")
    for path in sources:
        compile_source(folder, path, flags)
    link(folder, sources, program)
    return sources


def main():
    check_texts()
    flags = flags_of("--cflags")
    unnoticed = 0
    with tempfile.TemporaryDirectory() as folder:
        program, report = f"{folder}/usbip-emulator", f"{folder}/report.json"
        sources = build(folder, program)
        if sys.argv[1:] == ["--check"]:
            return
        if run_suite(program, report) != []:
            sys.exit("the emulator as it is does not pass; see what the suite says of it first")
        for number, (what, path, old, new) in enumerate(MUTATIONS, 1):
            with open(path, encoding="utf-8") as file:
                text = file.read()
            with open(f"{folder}/{path}", "w", encoding="utf-8") as file:
                file.write(text.replace(old, new))
            compile_source(folder, path, flags)
            link(folder, sources, program)
            noticed = run_suite(program, report)
            shutil.copy(path, f"{folder}/{path}")
            compile_source(folder, path, flags)
            if noticed is None:
                verdict = "the list cannot be read: no report"
            elif noticed:
                more = f" and {len(noticed) - 6} more" if len(noticed) > 6 else ""
                verdict = ", ".join(noticed[:6]) + more
            else:
                verdict = "NOT NOTICED"
                unnoticed += 1
            print(f"| {number} | {what} | {verdict} |", flush=True)
    sys.exit(f"{unnoticed} mutations went unnoticed" if unnoticed else 0)


if __name__ == "__main__":
    main()
