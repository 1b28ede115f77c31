#include "emulator/personality.h"

#include <string.h>

#include "protocol/usbip.h"

const struct usbip_personality usbip_personality_strict = {
    .name = "strict",
    .unknown_busid_status = USBIP_ST_NODEV,
    .busy_status = USBIP_ST_DEV_BUSY,
    .after_client = USBIP_POWER_CYCLE,
    .missing_endpoint = USBIP_REFUSE,
    .missing_endpoint_status = -USBIP_ENOENT,
    .babble_status = -USBIP_EOVERFLOW,
    .abort_status = -USBIP_ESHUTDOWN,
    .length_mismatch = USBIP_REFUSE,
    .direction_mismatch_status = -USBIP_EINVAL,
    .unknown_configuration = USBIP_REFUSE,
    .unknown_altsetting = USBIP_REFUSE,
    .executes_port_reset = true,
    .unlinked_status = -USBIP_ECONNRESET,
};

static const struct usbip_personality linux_server = {
    .name = "linux",
    .unknown_busid_status = USBIP_ST_NODEV,
    .hides_interfaces_until_configured = true,
    .busy_status = USBIP_ST_DEV_BUSY,
    .after_client = USBIP_BUS_RESET,
    .settling = {{300, USBIP_ST_DEV_BUSY}},
    .missing_endpoint = USBIP_IGNORE,
    .limits_in_transfers = true,
    .failed_allocation_breaks_device = true,
    .babble_status = -USBIP_EOVERFLOW,
    .babble_fills_transfer = true,
    .abort_status = -USBIP_ESHUTDOWN,
    .closes_on_bad_interval = true,
    .length_mismatch = USBIP_CLOSE,
    .direction_mismatch_status = -USBIP_EPIPE,
    .unknown_configuration = USBIP_REFUSE,
    .unknown_altsetting = USBIP_REFUSE,
    .executes_port_reset = true,
    .unlinked_status = -USBIP_ECONNRESET,
    .withholds_missed_unlinks = true,
};

static const struct usbip_personality usbipd_win = {
    .name = "usbipd-win",
    .unknown_busid_status = USBIP_ST_NODEV,
    .lists_attached = true,
    .busy_status = USBIP_ST_DEV_BUSY,
    .after_client = USBIP_POWER_CYCLE,
    .settling = {{500, USBIP_ST_NODEV}, {500, USBIP_ST_ERROR}, {500, USBIP_ST_DEV_ERR}},
    .ignores_devid = true,
    .missing_endpoint = USBIP_CLOSE,
    .closes_on_duplicate_seqnum = true,
    .limits_in_transfers = true,
    .packets_make_isochronous = true,
    .babble_status = -USBIP_ETIME,
    .short_not_ok = USBIP_SHORT_NOT_OK_IN_DATA,
    .abort_status = -USBIP_EPIPE,
    .drops_empty_out = true,
    .length_mismatch = USBIP_ACCEPT,
    .direction_mismatch_status = -USBIP_EPIPE,
    .unknown_configuration = USBIP_CLOSE,
    .unknown_altsetting = USBIP_CLOSE,
    .clears_halt_of_any_endpoint = true,
    .hides_remote_wakeup = true,
    .unlinked_status = -USBIP_ECONNRESET,
    .unlinks_lazily = true,
};

static const struct usbip_personality jiegec = {
    .name = "jiegec",
    .version_check = USBIP_VERSION_OR_ZERO,
    .keeps_op_connection = true,
    .unknown_busid_status = USBIP_ST_NA,
    .busy_status = USBIP_ST_NA,
    .after_client = USBIP_LEAVE_ALONE,
    .ignores_devid = true,
    .echoes_header = true,
    .failure_status = 1,
    .missing_endpoint = USBIP_REFUSE,
    .missing_endpoint_status = -USBIP_ENOENT,
    .starts_configured = true,
    .packets_make_isochronous = true,
    .babble_status = -USBIP_EOVERFLOW,
    .short_not_ok = USBIP_SHORT_NOT_OK_NOWHERE,
    .abort_status = -USBIP_ESHUTDOWN,
    .ends_idle_in = true,
    .length_mismatch = USBIP_ACCEPT,
    .direction_mismatch_status = -USBIP_EPIPE,
    .unknown_configuration = USBIP_ACCEPT,
    .unknown_altsetting = USBIP_ACCEPT,
    .ignores_configuration_index = true,
    .answers_unknown_descriptor = true,
    .unlinked_status = 0,
};

static const struct usbip_personality usbip_python = {
    .name = "usbip-python",
    .version_check = USBIP_VERSION_ANY,
    .unknown_busid_status = USBIP_ST_NA,
    .lists_attached = true,
    .busy_status = USBIP_ST_OK,
    .after_client = USBIP_LEAVE_ALONE,
    .ignores_devid = true,
    .echoes_header = true,
    .missing_endpoint = USBIP_REFUSE,
    .missing_endpoint_status = -USBIP_ENODEV,
    .starts_configured = true,
    .babble_status = 0,
    .short_not_ok = USBIP_SHORT_NOT_OK_NOWHERE,
    .abort_status = -USBIP_ESHUTDOWN,
    .length_mismatch = USBIP_ACCEPT,
    .direction_mismatch_status = -USBIP_EINVAL,
    .unknown_configuration = USBIP_ACCEPT,
    .unknown_altsetting = USBIP_ACCEPT,
    .clears_halt_of_any_endpoint = true,
    .executes_port_reset = true,
    .ignores_configuration_index = true,
    .unlinked_status = 0,
};

static const struct usbip_personality *const personalities[] = {
    &usbip_personality_strict, &linux_server, &usbipd_win, &jiegec, &usbip_python,
};

const struct usbip_personality *usbip_find_personality(const char *name)
{
    for (size_t i = 0; i < sizeof personalities / sizeof personalities[0]; i++) {
        if (strcmp(personalities[i]->name, name) == 0)
            return personalities[i];
    }
    return NULL;
}

const char *usbip_personality_names(void)
{
    return "strict, linux, usbipd-win, jiegec, usbip-python";
}
