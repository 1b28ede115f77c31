/* What a client may send (C018 to C030), checked on every PDU of every case. */
#ifndef TESTS_CONFORMANCE_CLIENT_RULES_H
#define TESTS_CONFORMANCE_CLIENT_RULES_H

#include <stddef.h>

#include "protocol/usbip.h"

struct link;
struct request;

enum rule {
    RULE_DEVID,
    RULE_SEQNUM,
    RULE_EP,
    RULE_LENGTH,
    RULE_NUMBER_OF_PACKETS,
    RULE_FLAGS,
    RULE_INTERVAL,
    RULE_SETUP,
    RULE_ORDER,
    RULE_UNLINK_FORM,
    RULE_UNLINK_OWN,
    RULE_LINE_STATE,
    RULE_IN_QUEUE,
    RULE_COUNT,
};

enum { RULE_TEXT_SIZE = 256 };

struct rules {
    struct {
        unsigned long checked; /* PDUs that the rule is about */
        char violation[RULE_TEXT_SIZE];
    } rules[RULE_COUNT];
};

/* The rule was kept once more. */
void rule_kept(struct link *link, enum rule rule);
/* It was broken; the first violation is remembered. */
void rule_broken(struct link *link, enum rule rule, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* A PDU of the URB phase, before it is among those that are pending. */
void rules_check(struct link *link, const struct usbip_header *header, const uint8_t *bytes);

#endif
