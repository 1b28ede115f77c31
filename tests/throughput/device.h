/* The devices that are measured, and which tests each is good for. */
#ifndef TESTS_THROUGHPUT_DEVICE_H
#define TESTS_THROUGHPUT_DEVICE_H

#include "tests/throughput/options.h"
#include "tests/throughput/series.h"

struct device {
    char label[LABEL_SIZE]; /* its script's name, or its busid */
    const char **busids;    /* one for each connection, then NULL; all are alike */
    uint16_t idVendor, idProduct;
    uint16_t bulk_in_packet; /* wMaxPacketSize */
};

/*
 * Lists the server's devices and takes those that the options mean: for each script its
 * options->connections devices in their order, or the one with the busid and others with the same
 * ids. Then imports one of each to see that it can be measured. Returns their number, or -1 and
 * why.
 */
int devices_find(struct device devices[MAX_SCRIPTS], const struct options *options,
                 const char *address, char error_text[ERROR_TEXT_SIZE]);
void devices_free(struct device devices[MAX_SCRIPTS], int count);

/* Whether the test shall run on it. index: its place among the devices. */
bool device_suits(const struct device *device, int index, const struct options *options,
                  enum test test);

/* NULL, or why this load cannot run on it. */
const char *device_objects(const struct device *device, const struct load *load);

#endif
