#include "tests/conformance/case.h"

extern const struct section op_phase, devlist_content, import_phase, urb_header, control_transfers,
    intercepted, data_transfers, unlinking, ordering, life_cycle, iso;

const struct section *const sections[] = {
    &op_phase,    &devlist_content, &import_phase, &urb_header, &control_transfers,
    &intercepted, &data_transfers,  &unlinking,    &ordering,   &life_cycle,
    &iso,
};
const size_t section_count = sizeof sections / sizeof sections[0];
