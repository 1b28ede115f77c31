/* usbip-conformance client: how a USB/IP client behaves, case by case. */
#ifndef TESTS_CONFORMANCE_CLIENT_MAIN_H
#define TESTS_CONFORMANCE_CLIENT_MAIN_H

/* argv[0] is "client". Returns the exit status. */
int client_main(int argc, char **argv);

#endif
