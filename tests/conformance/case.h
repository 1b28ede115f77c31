/* A case of the suite is a value, in the file of its section. */
#ifndef TESTS_CONFORMANCE_CASE_H
#define TESTS_CONFORMANCE_CASE_H

#include <stddef.h>

struct trial;

/* MUST: the document says "shall", or a violation breaks a widespread peer. SHOULD: the widespread
 * servers agree where the document is silent. MAY: everything else, for information. */
enum case_level { MUST, SHOULD, MAY };

enum case_profile {
    CORE = 1,    /* what every client relies on */
    STRICT = 2,  /* everything that leaves a device as it was found; contains CORE */
    HOSTILE = 4, /* can close, reset or wedge a real server; runs last */
    SOAK = 8,    /* long; with it, cases of other profiles take more rounds */
};

/* What a case cannot do without; lacking it, it is "not applicable". */
enum case_need {
    NEED_DEVICE = 1,         /* an exported device */
    NEED_BULK = 2,           /* with bulk IN and bulk OUT */
    NEED_INTERRUPT = 4,      /* with interrupt IN */
    NEED_ACM = 8,            /* that is CDC-ACM */
    NEED_STIMULUS = 16,      /* somebody at the device's other end who does what we ask */
    NEED_SECOND_DEVICE = 32, /* one more exported device */
    NEED_OWN_SERVER = 64,    /* a server whose devices are all there for this run */
    NEED_UNSHARED = 128,     /* the busid of a device that is present but not exported */
    NEED_ISO = 256,          /* isochronous endpoints */
};

struct conformance_case {
    const char *id; /* "S001" */
    const char *name;
    enum case_level level;
    unsigned profiles; /* of enum case_profile */
    unsigned needs;    /* of enum case_need */
    const char *requirement;
    const char *source; /* of the requirement */
    /* NULL: nothing can bring it about; `not_applicable` says why. */
    void (*run)(struct trial *trial);
    const char *not_applicable;
};

struct section {
    const char *letter; /* "A": cases can be addressed by it */
    const char *title;
    const struct conformance_case *cases;
    size_t count;
};

/* The cases for servers. */
extern const struct section *const sections[];
extern const size_t section_count;

/* All cases for one kind of peer. */
struct case_list {
    const struct section *const *sections;
    size_t count;
};

#endif
