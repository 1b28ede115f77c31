/*
 * What the run function of a case works with. A run function returns when its requirement is met;
 * trial_fail() and trial_not_applicable() end it at once. Connections and memory belong to the
 * trial and are given back when the case is over, however it ends.
 */
#ifndef TESTS_CONFORMANCE_TRIAL_H
#define TESTS_CONFORMANCE_TRIAL_H

#include <setjmp.h>
#include <stdnoreturn.h>

#include "tests/conformance/case.h"
#include "tests/conformance/stimulus.h"
#include "tests/conformance/target.h"
#include "tests/conformance/wire.h"

enum {
    TRIAL_MAX_WIRES = 64,
    TRIAL_OUTCOME_SIZE = 128,
    TRIAL_REASON_SIZE = 512,
    TRIAL_RETRY_PAUSE_MS = 10,
    TRIAL_MAX_EMPTY = 500, /* transfers without data in a row: no more are coming */
};

enum verdict { PASS, FAIL, NOT_APPLICABLE };

struct trial_block;
struct case_server;
struct client;

struct trial {
    const struct target *target;
    uint64_t random; /* state of trial_random() */
    enum verdict verdict;
    bool gave_up; /* on a device that is refused again and again */
    bool needs_stimulus;
    struct {
        uint32_t sent, count, size;
    } numbers; /* of stimulate_send_numbered() */
    char outcome[TRIAL_OUTCOME_SIZE];
    char reason[TRIAL_REASON_SIZE];
    struct wire_log log;
    struct wire *wires[TRIAL_MAX_WIRES];
    unsigned wire_count;
    struct trial_block *blocks;
    struct case_server *server; /* of a client case: who plays the server, */
    struct client *client;      /* and who is under test (client/client_trial.h) */
    jmp_buf end;
};

/* Runs one case. The trial has the result then; trial_clear() afterwards. */
void trial_run(struct trial *trial, const struct target *target,
               const struct conformance_case *conformance_case);

/*
 * Runs `look` as a case would run, before the first of them. Returns 0, or -1 when it failed; the
 * reason is in the trial.
 */
int trial_prepare(struct trial *trial, struct target *target,
                  void (*look)(struct trial *, struct target *, const struct target_choice *),
                  const struct target_choice *choice);

/* Gives back connections and memory, as trial_run() does at the end of a case. */
void trial_clean_up(struct trial *trial);

/* ---- Results ---- */

/* The outcome for the report, as printf; a later one replaces it. Without any it is "ok". */
void trial_record(struct trial *trial, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Adds another part to it, behind a comma. */
void trial_record_more(struct trial *trial, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
noreturn void trial_fail(struct trial *trial, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
noreturn void trial_not_applicable(struct trial *trial, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Memory until the end of the case, all zero. */
void *trial_alloc(struct trial *trial, size_t size);
/* The same sequence for the same --seed, in every case. */
uint32_t trial_random(struct trial *trial);
/* Fills memory with random bytes. */
uint8_t *trial_random_bytes(struct trial *trial, size_t size);
void trial_pause(int ms);

/* ---- OP phase ---- */

struct wire *trial_connect(struct trial *trial);
/* As trial_connect(), but NULL when there is no connection. */
struct wire *trial_try_connect(struct trial *trial, const char *host);
void trial_send_op(struct wire *wire, uint16_t version, uint16_t code, uint32_t status);
/* Reads an OP header and fails unless it is well-formed; returns its status. */
uint32_t trial_read_op(struct trial *trial, struct wire *wire, uint16_t code);

struct devlist {
    uint32_t count;
    struct {
        uint8_t bytes[USBIP_DEVICE_RECORD_SIZE];
        struct usbip_device_record record;
        const uint8_t *interfaces; /* bNumInterfaces times 4 bytes */
    } * devices;
};

/* Reads a reply to OP_REQ_DEVLIST; fails when it is malformed. */
void trial_read_devlist(struct trial *trial, struct wire *wire, struct devlist *list);
/* A whole OP_REQ_DEVLIST on a connection of its own. */
void trial_devlist(struct trial *trial, struct devlist *list);
/* The same, until the device under test is in it (it may still be given back); at most
 * retry_ms of the target. Returns its index, or -1. */
int trial_devlist_with_device(struct trial *trial, struct devlist *list);

/* Sends OP_REQ_IMPORT for a busid field of 32 bytes, and returns the status of the reply. */
uint32_t trial_try_import(struct trial *trial, struct wire *wire, const char *busid,
                          struct usbip_device_record *record);
/* Imports that device on a new connection, trying again while it is refused. The record of the
 * reply is wanted by few. */
struct wire *trial_import_record(struct trial *trial, const char *busid,
                                 struct usbip_device_record *record);
struct wire *trial_import_busid(struct trial *trial, const char *busid);
/* The device under test. */
struct wire *trial_import(struct trial *trial);
/* And SET_CONFIGURATION: its endpoints can be used. For a case that needs a stimulus, that is ready
 * too. */
struct wire *trial_configure(struct trial *trial);
void trial_set_configuration(struct trial *trial, struct wire *wire, uint8_t value);

/* ---- URB phase ---- */

/* The answer to a CMD_SUBMIT or CMD_UNLINK; fails when there is none. */
struct wire_pdu *trial_reply(struct trial *trial, struct wire *wire, uint32_t seqnum);
/* The same, and fails unless status and actual_length are these. */
struct wire_pdu *trial_expect(struct trial *trial, struct wire *wire, uint32_t seqnum,
                              int32_t status, uint32_t actual_length);
struct wire_pdu *trial_expect_unlinked(struct trial *trial, struct wire *wire, uint32_t seqnum,
                                       int32_t status);
/* Fails when an answer to this request has come, or comes before a probe's. */
void trial_expect_pending(struct trial *trial, struct wire *wire, uint32_t seqnum);

/* How long a bulk IN transfer is with so many bytes of data: an FTDI adds some. */
uint32_t trial_data_length(const struct trial *trial, size_t size);
/* The data of a bulk IN transfer, without what an FTDI has added; *size is their number. */
const uint8_t *trial_data(struct trial *trial, const struct wire_pdu *pdu, size_t *size);
/* As trial_expect(), for a bulk IN transfer with so many bytes of data, which it returns. */
const uint8_t *trial_expect_data(struct trial *trial, struct wire *wire, uint32_t seqnum,
                                 int32_t status, size_t size);
/*
 * Takes these transfers in their order, and then more of the same length, until they have brought
 * all of these bytes. A stimulus with exact packets needs no more than these, and all of them.
 */
void trial_expect_stream(struct trial *trial, struct wire *wire, const uint32_t *seqnums,
                         unsigned count, uint32_t length, const uint8_t *data, size_t size);

uint32_t trial_in(struct trial *trial, struct wire *wire, uint32_t length);
uint32_t trial_out(struct trial *trial, struct wire *wire, const void *data, uint32_t length);
/* An interrupt IN transfer of one packet that pends: notifications that have been waiting are over.
 */
uint32_t trial_pending_interrupt(struct trial *trial, struct wire *wire);
uint32_t trial_get_descriptor(struct wire *wire, uint8_t type, uint8_t index, uint16_t wIndex,
                              uint16_t length);
uint32_t trial_get_status(struct wire *wire);
/* A control request and its answer. */
struct wire_pdu *trial_control(struct trial *trial, struct wire *wire, uint8_t bmRequestType,
                               uint8_t bRequest, uint16_t wValue, uint16_t wIndex, uint16_t wLength,
                               const void *data);
/* GET_STATUS has to be answered: the connection works. */
void trial_expect_alive(struct trial *trial, struct wire *wire);

enum outcome { OUTCOME_REPLY, OUTCOME_CLOSE, OUTCOME_SILENT, OUTCOME_DESYNC };

/*
 * What becomes of a request that was just sent: it is probed with GET_STATUS right behind it, so
 * that silence shows at once. Adds the outcome to the record; *pdu is the reply, if there is one.
 */
enum outcome trial_observe(struct trial *trial, struct wire *wire, uint32_t seqnum,
                           struct wire_pdu **pdu);
/* The same for bytes of the OP phase, where nothing can be probed: CLOSE, or SILENT when the
 * connection is still open after the time-out. Fails when any byte comes. */
enum outcome trial_observe_op(struct trial *trial, struct wire *wire);

#endif
