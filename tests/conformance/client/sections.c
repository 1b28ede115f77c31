#include "tests/conformance/client/sections.h"

extern const struct section client_op_phase, client_lists, client_matching, client_results,
    client_life_cycle;

static const struct section *const sections_of_clients[] = {
    &client_op_phase, &client_lists,   &client_requests,
    &client_matching, &client_results, &client_life_cycle,
};

const struct case_list client_cases = {sections_of_clients,
                                       sizeof sections_of_clients / sizeof sections_of_clients[0]};
