#include "tests/unit/client/imported_session.h"

#include "tests/support/testing.h"

struct usbip_host_session *imported_session(void)
{
    static const struct usbip_host_session_events events;
    struct usbip_device_record record = {.busid = "1-1", .busnum = 1, .devnum = 2};
    uint8_t reply[USBIP_IMPORT_REPLY_SIZE];
    const uint8_t *data;
    struct usbip_host_session *session = usbip_host_session_new(&events, NULL);

    REQUIRE(session != NULL && usbip_host_session_request_import(session, "1-1") == 0);
    REQUIRE(usbip_host_session_take_output(session, &data) == USBIP_IMPORT_REQUEST_SIZE);
    usbip_encode_op_common(
        reply, &(struct usbip_op_common){.version = USBIP_VERSION, .code = OP_REP_IMPORT});
    usbip_encode_device_record(reply + USBIP_OP_COMMON_SIZE, &record);
    REQUIRE(usbip_host_session_receive(session, reply, sizeof reply) == 0);
    return session;
}
