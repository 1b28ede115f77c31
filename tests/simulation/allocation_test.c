/*
 * A URB costs no allocation, once a connection is warm: client and emulator joined in memory, with
 * malloc(), calloc() and realloc() counted (the linker's --wrap leads the calls here).
 */
#include <stddef.h>
#include <string.h>

#include "client/session.h"
#include "emulator/session.h"
#include "tests/support/testing.h"

enum {
    IN_FLIGHT = 64,
    WARM_UP_TRANSFERS = 1000,
    COUNTED_TRANSFERS = 10000,
    PIECE_SIZE = 48,
    OUT_ENDPOINT = 0x01,
    IN_ENDPOINT = 0x81,
    IN_LENGTH = 64,
};

static unsigned long allocations;

/* Declared for the linker, which knows them by these names. */
void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);

void *__wrap_malloc(size_t size)
{
    allocations++;
    return __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    allocations++;
    return __real_calloc(count, size);
}

void *__wrap_realloc(void *memory, size_t size)
{
    allocations++;
    return __real_realloc(memory, size);
}

static struct usbip_scheduler scheduler;
static struct usbip_bus bus;
static struct usbip_echo echo;
static struct usbip_host_session *host;
static struct usbip_device_session *device;
static bool imported;
static unsigned long ended, wrong;

static struct slot {
    struct usbip_transfer transfer;
    uint8_t buffer[IN_LENGTH];
} slots[IN_FLIGHT];

static void ignore_wake(void *context)
{
    (void)context;
}

static void note_import(void *context, const struct usbip_device_record *record)
{
    (void)context, (void)record;
    imported = true;
}

static void exchange(void)
{
    const uint8_t *data;
    size_t size;
    while ((size = usbip_host_session_take_output(host, &data)) > 0)
        usbip_device_session_receive(device, data, size);
    while ((size = usbip_device_session_take_output(device, &data)) > 0)
        usbip_host_session_receive(host, data, size);
}

static void begin(void)
{
    static const struct usbip_device_session_events device_events = {ignore_wake};
    const struct usbip_host_session_events host_events = {.imported = note_import};
    const struct usbip_device_options options = {
        .descriptor = {.bcdUSB = 0x0200, .bMaxPacketSize0 = 64, .bNumConfigurations = 1},
        .speed = USBIP_SPEED_FULL,
    };
    const struct usbip_behaviour behaviour = {&usbip_echo_ops, &echo};
    char error_text[256];
    struct usbip_device *echoing = usbip_device_new(&options, &usbip_function_cdc_acm, &behaviour,
                                                    &scheduler, &bus.log, error_text);
    REQUIRE(echoing != NULL);
    REQUIRE(usbip_bus_add(&bus, echoing) == 0);
    device = usbip_device_session_new(&bus, "test", &device_events, NULL);
    host = usbip_host_session_new(&host_events, NULL);
    REQUIRE(device != NULL && host != NULL);
    imported = false;
    ended = wrong = 0;
    REQUIRE(usbip_host_session_request_import(host, "1-1") == 0);
    exchange();
    REQUIRE(imported);
}

static void end(void)
{
    usbip_host_session_free(host);
    usbip_device_session_free(device);
    usbip_bus_free(&bus);
    usbip_scheduler_free(&scheduler);
}

static void note_end(struct usbip_transfer *transfer)
{
    ended++;
    wrong += transfer->status != 0;
}

static void submit(unsigned index, uint8_t type, uint8_t endpoint, struct usbip_setup setup,
                   uint32_t length)
{
    slots[index].transfer = (struct usbip_transfer){
        .type = type,
        .endpoint = endpoint,
        .setup = setup,
        .buffer = slots[index].buffer,
        .length = length,
        .done = note_end,
    };
    wrong += usbip_host_session_submit(host, &slots[index].transfer, 0) != 0;
}

static void get_descriptors(unsigned long transfers)
{
    const struct usbip_setup setup = {USB_DIR_IN, USB_REQ_GET_DESCRIPTOR, USB_DT_DEVICE << 8, 0,
                                      USB_DT_DEVICE_SIZE};
    for (unsigned long done = 0; done < transfers; done += IN_FLIGHT) {
        for (unsigned i = 0; i < IN_FLIGHT; i++)
            submit(i, USB_ENDPOINT_XFER_CONTROL, 0, setup, setup.wLength);
        exchange();
    }
}

static void echo_pieces(unsigned long transfers)
{
    const struct usbip_setup none = {0};
    for (unsigned long done = 0; done < transfers; done += IN_FLIGHT) {
        for (unsigned i = 0; i < IN_FLIGHT / 2; i++)
            submit(i, USB_ENDPOINT_XFER_BULK, IN_ENDPOINT, none, IN_LENGTH);
        for (unsigned i = IN_FLIGHT / 2; i < IN_FLIGHT; i++)
            submit(i, USB_ENDPOINT_XFER_BULK, OUT_ENDPOINT, none, PIECE_SIZE);
        exchange();
    }
}

static void check(void (*run)(unsigned long transfers))
{
    run(WARM_UP_TRANSFERS);
    unsigned long before = allocations, ended_before = ended;
    CU_ASSERT(before > 0); /* they are counted */
    run(COUNTED_TRANSFERS);
    CU_ASSERT(ended - ended_before >= COUNTED_TRANSFERS);
    CU_ASSERT_EQUAL(wrong, 0);
    CU_ASSERT_EQUAL(allocations, before);
}

static void test_control(void)
{
    begin();
    check(get_descriptors);
    end();
}

static void test_bulk(void)
{
    const struct usbip_setup set_configuration = {0, USB_REQ_SET_CONFIGURATION, 1, 0, 0};
    begin();
    submit(0, USB_ENDPOINT_XFER_CONTROL, 0, set_configuration, 0);
    exchange();
    check(echo_pieces);
    end();
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"control transfers allocate nothing", test_control},
        {"bulk transfers allocate nothing", test_bulk},
        CU_TEST_INFO_NULL,
    };
    return run_tests("allocation", tests);
}
