/* All cases for clients. */
#ifndef TESTS_CONFORMANCE_CLIENT_SECTIONS_H
#define TESTS_CONFORMANCE_CLIENT_SECTIONS_H

#include "tests/conformance/case.h"

extern const struct case_list client_cases;
/* Its cases are the rules of rules.h, in their order. */
extern const struct section client_requests;

#endif
