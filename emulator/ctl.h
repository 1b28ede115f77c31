/* usbip-emulator ctl: a client of the control socket. */
#ifndef EMULATOR_CTL_H
#define EMULATOR_CTL_H

/* argv[0] is "ctl". Returns the exit status: 0, 1 when the request failed, 2 for wrong usage. */
int usbip_ctl(int argc, char **argv);

#endif
