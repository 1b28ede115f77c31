/*
 * A capture file of Linux usbmon records (pcap, DLT_USB_LINUX_MMAPPED), written through libpcap.
 *
 * It is whole after each flush: a program that is killed, and a disk that is full, leave a file
 * that ends with a whole record.
 */
#ifndef CAPTURE_USBMON_FILE_H
#define CAPTURE_USBMON_FILE_H

#include <pcap/usb.h>
#include <stddef.h>
#include <stdint.h>

enum {
    USBIP_USBMON_HEADER_SIZE = 64,
    USBIP_USBMON_ISO_DESCRIPTOR_SIZE = 16,
    USBIP_USBMON_MAX_RECORD = 262144, /* bytes: libpcap reads no longer ones */
    USBIP_USBMON_MAX_DATA = USBIP_USBMON_MAX_RECORD - USBIP_USBMON_HEADER_SIZE,
    USBIP_USBMON_ERROR_SIZE = 400,
};

/* URB events, header->event_type. */
enum { USBIP_USBMON_SUBMIT = 'S', USBIP_USBMON_COMPLETE = 'C' };

/* Transfer types as usbmon numbers them, header->transfer_type. */
enum {
    USBIP_USBMON_ISOC = 0,
    USBIP_USBMON_INT = 1,
    USBIP_USBMON_CONTROL = 2,
    USBIP_USBMON_BULK = 3,
};

/* Why a record has no setup or no data, header->setup_flag and data_flag; 0 means it is there. */
enum {
    USBIP_USBMON_NO_SETUP = '-',
    USBIP_USBMON_IN_SUBMIT = '<',
    USBIP_USBMON_OUT_COMPLETE = '>',
};

struct usbip_usbmon_file;

/*
 * Creates the file, or empties it. Returns NULL and, in error_text, why it cannot be written (a
 * whole sentence with the path).
 */
struct usbip_usbmon_file *usbip_usbmon_file_open(const char *path,
                                                 char error_text[USBIP_USBMON_ERROR_SIZE]);

/*
 * Appends a record. header is complete but for data_len and the time, which is in microseconds
 * since 1970. descriptors (header->ndesc of them, isochronous) and data follow it; `missing` bytes
 * more belonged to the data and are not there. After an error nothing is written any more.
 */
void usbip_usbmon_file_write(struct usbip_usbmon_file *file, const pcap_usb_header_mmapped *header,
                             uint64_t time_us, const usb_isodesc *descriptors, const uint8_t *data,
                             size_t size, size_t missing);

/*
 * Hands all records to the system. Returns 0, or -1 once, when something could not be written:
 * error_text then is why, the file ends with the last record that was flushed, and is given up.
 */
int usbip_usbmon_file_flush(struct usbip_usbmon_file *file,
                            char error_text[USBIP_USBMON_ERROR_SIZE]);

/* Closes without flushing. NULL is allowed. */
void usbip_usbmon_file_close(struct usbip_usbmon_file *file);

#endif
