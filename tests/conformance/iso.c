/* K. Isochronous transfers, which serial devices do not have. */
#include "tests/conformance/case.h"

static const char not_here[] = "isochronous cases are described, but cannot be run";
static const char source[] = "usbip_protocol.rst, usbip_iso_packet_descriptor";

static const struct conformance_case cases[] = {
    {"S160", "iso-in-depad", MUST, STRICT, NEED_DEVICE | NEED_ISO,
     "The data of the packets come without gaps, then the descriptors with their first offsets.",
     source, NULL, not_here},
    {"S161", "iso-np-limits", MUST, STRICT, NEED_DEVICE | NEED_ISO,
     "Up to 1024 packets work, more are refused.", source, NULL, not_here},
    {"S162", "iso-out-ret", MUST, STRICT, NEED_DEVICE | NEED_ISO,
     "The reply to an OUT transfer has no data, but the descriptors.", source, NULL, not_here},
};

const struct section iso = {"K", "Isochronous transfers", cases, sizeof cases / sizeof cases[0]};
