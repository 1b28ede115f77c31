#include "tests/unit/emulator/replay/replay_fixture.h"

#include <string.h>

/* ---- Recordings ---- */

struct capture_file file;

void put_event(char event, uint64_t id, uint8_t endpoint, const void *data, uint32_t size,
               uint32_t length, int32_t status)
{
    put_usbmon(&file, &(struct usbmon){
                          .id = id,
                          .event = event,
                          .type = endpoint == NOTIFICATIONS ? INTERRUPT : BULK,
                          .endpoint = endpoint,
                          .address = ADDRESS,
                          .data = data,
                          .size = size,
                          .length = length,
                          .status = status,
                      });
}

void put_out_ending(const char *text, int32_t status)
{
    uint64_t id = 0x1000 + file.records;
    uint32_t size = (uint32_t)strlen(text);
    put_event('S', id, BULK_OUT, text, size, size, 0);
    put_event('C', id, BULK_OUT, NULL, 0, status == 0 ? size : 0, status);
}

void put_out(const char *text)
{
    put_out_ending(text, 0);
}

void put_in_bytes(uint8_t endpoint, const void *data, uint32_t size, uint32_t length,
                  int32_t status)
{
    uint64_t id = 0x1000 + file.records;
    put_event('S', id, endpoint, NULL, 0, length, 0);
    put_event('C', id, endpoint, size > 0 ? data : NULL, size, size, status);
}

void put_in(const char *text)
{
    put_in_bytes(BULK_IN, text, (uint32_t)strlen(text), 512, 0);
}

void begin_as(const uint8_t *device, const uint8_t *configuration, uint32_t size)
{
    file = (struct capture_file){0};
    pcap_begin(&file, "replay.pcap", LINK_USBMON_MMAPPED);
    put_usbmon_control(&file, ADDRESS, get_device_descriptor, device, 18, 0);
    put_usbmon_control(&file, ADDRESS, get_configuration_descriptor, configuration, size, 0);
    put_usbmon_control(&file, ADDRESS, set_configuration, NULL, 0, 0);
}

void begin(void)
{
    begin_as(acm_device, acm_configuration, sizeof acm_configuration);
}

/* ---- The replay, and a client that has configured it ---- */

struct fixture fixture;
struct client client;
struct usbip_replay *replay;
struct usbip_replay_options options;

const char *finish_recording(void)
{
    write_file(file.name, file.bytes.data, file.bytes.size);
    usbip_buffer_free(&file.bytes);
    return file_path(file.name);
}

void start_bus(void)
{
    char error_text[USBIP_CAPTURE_ERROR_SIZE];
    struct usbip_device *device;
    fixture_init(&fixture);
    options.path = finish_recording();
    replay = usbip_replay_new(&options, &fixture.scheduler, &fixture.bus.log, &device, error_text);
    if (!replay)
        fprintf(stderr, "%s\n", error_text);
    REQUIRE(replay != NULL);
    REQUIRE(usbip_bus_add(&fixture.bus, device) == 0);
}

void attach(void)
{
    client_open(&fixture, &client);
    client_import(&client);
    client_configure(&client);
}

void start(void)
{
    start_bus();
    attach();
}

void leave(void)
{
    client_close(&client);
    client.session = NULL;
}

void stop(void)
{
    if (client.session)
        leave();
    fixture_free(&fixture);
    usbip_replay_free(replay);
    options = (struct usbip_replay_options){0};
}

uint64_t divergences(void)
{
    return usbip_replay_divergences(replay);
}

bool ends_well(void)
{
    leave();
    if (divergences() > 0)
        fprintf(stderr, "%s\n", fixture.log);
    return divergences() == 0;
}

bool sends(uint32_t seqnum, const char *text)
{
    uint32_t size = (uint32_t)strlen(text);
    submit_out_bytes(&client, seqnum, BULK_OUT, (const uint8_t *)text, size);
    return got_out(&client, seqnum, 0, size);
}

bool gets(uint32_t seqnum, const char *text)
{
    return got_in_bytes(&client, seqnum, 0, text, strlen(text));
}
