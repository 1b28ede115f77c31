/* What the tests of replays share: recordings that are made record by record, their replay on a
 * bus, and a client of it. */
#ifndef TESTS_UNIT_EMULATOR_REPLAY_REPLAY_FIXTURE_H
#define TESTS_UNIT_EMULATOR_REPLAY_REPLAY_FIXTURE_H

#include "emulator/replay/replay.h"
#include "tests/unit/emulator/capture/capture_fixture.h"
#include "tests/unit/emulator/session_fixture.h"

enum { ADDRESS = 5, INTERRUPT = 1, CONTROL = 2, BULK = 3 };

#define BULK_IN 0x81
#define BULK_OUT 0x02
#define NOTIFICATIONS 0x83

/* ---- Recordings ---- */

/* The one in the making. */
extern struct capture_file file;

/* A CDC-ACM device with its enumeration, or another one. */
void begin(void);
void begin_as(const uint8_t *device, const uint8_t *configuration, uint32_t size);

void put_event(char event, uint64_t id, uint8_t endpoint, const void *data, uint32_t size,
               uint32_t length, int32_t status);
/* A transfer on BULK_OUT, and how it ended. */
void put_out(const char *text);
void put_out_ending(const char *text, int32_t status);
/* An IN transfer of `length` that ends with these bytes; it was submitted just before. */
void put_in_bytes(uint8_t endpoint, const void *data, uint32_t size, uint32_t length,
                  int32_t status);
void put_in(const char *text);

/* Writes the recording to its file and forgets it. Returns the path, valid until the next call. */
const char *finish_recording(void);

/* ---- The replay, and a client that has configured it ---- */

extern struct fixture fixture;
extern struct client client;
extern struct usbip_replay *replay;
extern struct usbip_replay_options options; /* of the next replay; stop() clears them */

void start_bus(void); /* without the client */
void start(void);
/* One more client; the one before must have left. */
void attach(void);
void leave(void);
void stop(void);

uint64_t divergences(void);
/* Ends the session too, so that what never came counts. */
bool ends_well(void);
/* Submit OUT data, which must be taken; and take a reply with IN data. */
bool sends(uint32_t seqnum, const char *text);
bool gets(uint32_t seqnum, const char *text);

#endif
