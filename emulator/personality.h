/*
 * Personalities: how known servers differ where the protocol leaves room, or where they break it. A
 * personality is a set of switches; whoever acts differently asks the switch, never the name.
 *
 * All is from reading the servers' sources unless a comment says "observed": Linux (usbipd and
 * usbip-host), usbipd-win with its driver VBoxUSB, jiegec/usbip, usbip-python. Where a server's
 * behaviour is not known it has what "strict" has.
 */
#ifndef EMULATOR_PERSONALITY_H
#define EMULATOR_PERSONALITY_H

#include <stdbool.h>
#include <stdint.h>

/* What becomes of a request that makes no sense. */
enum usbip_reaction {
    USBIP_REFUSE, /* it ends with an error */
    USBIP_ACCEPT, /* it ends as if all were well */
    USBIP_IGNORE, /* it is never answered */
    USBIP_CLOSE,  /* the connection is closed */
};

/* Which requests of the OP phase are understood. */
enum usbip_version_check { USBIP_VERSION_EXACT, USBIP_VERSION_OR_ZERO, USBIP_VERSION_ANY };

/* In what state the next client finds the device. */
enum usbip_after_client {
    USBIP_POWER_CYCLE, /* as after power-on: not configured */
    USBIP_BUS_RESET,   /* reset, but its configuration set again */
    USBIP_LEAVE_ALONE, /* as it was left: only halts, and bytes that wait for a host, are gone */
};

/* Where SHORT_NOT_OK makes a short transfer an error. */
enum usbip_short_not_ok {
    USBIP_SHORT_NOT_OK_EVERYWHERE,
    USBIP_SHORT_NOT_OK_IN_DATA, /* not on endpoint 0 */
    USBIP_SHORT_NOT_OK_NOWHERE,
};

/* For a while after its client is gone a device may refuse imports, in phases one after another. */
enum { USBIP_MAX_SETTLING = 3 };
struct usbip_settling {
    uint16_t ms; /* 0: no more phases */
    uint8_t status;
};

struct usbip_personality {
    const char *name;

    /* ---- OP phase, of the server as a whole ---- */

    /* jiegec/usbip takes version 0 for a URB's header, and so lets it pass; usbip-python does not
     * look at it. */
    enum usbip_version_check version_check;
    /* jiegec/usbip goes on reading after OP_REP_DEVLIST and after a refused import. */
    bool keeps_op_connection;
    /* jiegec/usbip and usbip-python know of no status but ST_NA. */
    uint8_t unknown_busid_status;

    /* ---- OP phase, of a device ---- */

    /* usbipd-win and usbip-python list a device that is attached. */
    bool lists_attached;
    /* usbip-host takes the configuration away, and Linux reads a device's interfaces from it
     * (observed). */
    bool hides_interfaces_until_configured;
    /* USBIP_ST_OK: the device goes to the new client. In usbip-python both then own it; here the
     * old connection stays open, what it sends is read and dropped, and nothing answers. */
    uint8_t busy_status;

    /* ---- When the client is gone ---- */

    /* Linux resets the port, and the configuration survives that (observed). usbipd-win cycles the
     * port. Devices of the other two are objects that stay. */
    enum usbip_after_client after_client;
    /* Linux is busy with the reset for about 0.3 s (observed); on Windows the device goes
     * through re-enumeration, and how long each phase lasts is a guess within 1 to 3 s. */
    struct usbip_settling settling[USBIP_MAX_SETTLING];

    /* ---- URBs ---- */

    /* Only Linux compares the devid. */
    bool ignores_devid;
    /* jiegec/usbip and usbip-python send devid, direction and ep of the request back. */
    bool echoes_header;
    /* jiegec/usbip has one status for all that fails, without data. 0: each has its own. */
    int32_t failure_status;
    /* An endpoint that does not exist, or not yet. Linux finds no pipe and forgets the URB without
     * having read its payload (observed); VBoxUSB refuses it, which ends usbipd-win's session. */
    enum usbip_reaction missing_endpoint;
    int32_t missing_endpoint_status;
    /* usbipd-win keeps its URBs in a dictionary. */
    bool closes_on_duplicate_seqnum;
    /* Linux and usbipd-win allocate what an IN transfer asks for, so that
     * USBIP_SESSION_MAX_TRANSFER holds for both directions. */
    bool limits_in_transfers;
    /* A transfer that is too long, or has DMA_MAP_SG and no length, is memory that Linux cannot
     * allocate. The device is then in error (ST_DEV_ERR) until it is bound again (observed); here
     * until it is plugged again. */
    bool failed_allocation_breaks_device;
    /* jiegec/usbip and usbip-python have their endpoints without SET_CONFIGURATION. */
    bool starts_configured;
    /* usbipd-win and jiegec/usbip tell isochronous transfers by number_of_packets alone, and read
     * that many packet descriptors. */
    bool packets_make_isochronous;
    /* VBoxUSB has no code for babble and reports that the device does not respond. 0: what is too
     * long goes into two transfers, as in usbip-python. */
    int32_t babble_status;
    /* The bytes that fitted are delivered with that status (observed on Linux's dummy_hcd). */
    bool babble_fills_transfer;
    /* VBoxUSB allows short control transfers anyway; jiegec/usbip and usbip-python do not look at
     * transfer_flags. */
    enum usbip_short_not_ok short_not_ok;
    /* Of URBs whose endpoint goes away, or is aborted: VBoxUSB takes "cancelled" for a stall. */
    int32_t abort_status;
    /* usbcore wants an interval above 0, up to 255 at low and full speed (0: observed). */
    bool closes_on_bad_interval;
    /* usbipd-win is reported not to pass OUT transfers of length 0 on. */
    bool drops_empty_out;
    /* jiegec/usbip answers an IN transfer at once, with nothing when there is nothing. */
    bool ends_idle_in;

    /* ---- Control transfers ---- */

    /* wLength other than transfer_buffer_length: usbcore refuses the URB, which ends the session;
     * the others carry it out with the smaller of the two. */
    enum usbip_reaction length_mismatch;
    /* A direction other than that of bmRequestType: Linux and usbipd-win follow the former, and
     * then it is the device that cannot. */
    int32_t direction_mismatch_status;
    /* usbipd-win hands these two to VBoxUSB, and an error ends its session. jiegec/usbip and
     * usbip-python look neither at the configuration's value nor at the alternate setting. */
    enum usbip_reaction unknown_configuration;
    enum usbip_reaction unknown_altsetting;
    /* CLEAR_FEATURE(ENDPOINT_HALT): VBoxUSB has nothing to do without a pipe, usbip-python without
     * an endpoint; both call it success. */
    bool clears_halt_of_any_endpoint;
    /* Linux carries out the reset that a hub would; on Windows the device sees the request. */
    bool executes_port_reset;
    /* jiegec/usbip and usbip-python have one configuration descriptor for every index. */
    bool ignores_configuration_index;
    /* jiegec/usbip answers for a descriptor that it does not know with none at all. */
    bool answers_unknown_descriptor;
    /* usbipd-win takes remote wakeup from the configuration descriptor. */
    bool hides_remote_wakeup;

    /* ---- Unlinking ---- */

    /* Of RET_UNLINK when the URB was waiting; jiegec/usbip and usbip-python always say 0. */
    int32_t unlinked_status;
    /* Linux queues a RET_UNLINK(0) and does not wake who sends it: it goes out with the next
     * completion (observed). */
    bool withholds_missed_unlinks;
    /* VBoxUSB can abort a whole pipe only. usbipd-win answers CMD_UNLINK at once but leaves the URB
     * where it is, its data lost, until it has counted as many unlinks as URBs wait there. */
    bool unlinks_lazily;
};

/* The protocol's document to the letter, and helpful where it is silent. */
extern const struct usbip_personality usbip_personality_strict;

/* The personality of that name, or NULL. */
const struct usbip_personality *usbip_find_personality(const char *name);
/* All names, separated by ", ", for messages. */
const char *usbip_personality_names(void);

#endif
