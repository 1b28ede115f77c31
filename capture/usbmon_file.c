#include "capture/usbmon_file.h"

#include <errno.h>
#include <pcap/pcap.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "protocol/buffer.h"

enum {
    FILE_HEADER_SIZE = 24,
    RECORD_HEADER_SIZE = 16,
    /* Records are collected here between flushes, so that few are cut by a write. */
    WRITE_BUFFER_SIZE = 1 << 20,
    MICROSECONDS = 1000000,
};

_Static_assert(sizeof(pcap_usb_header_mmapped) == USBIP_USBMON_HEADER_SIZE, "as in the file");
_Static_assert(sizeof(usb_isodesc) == USBIP_USBMON_ISO_DESCRIPTOR_SIZE, "as in the file");

struct usbip_usbmon_file {
    char *path;
    pcap_t *pcap;
    pcap_dumper_t *dumper;
    struct usbip_buffer record;
    long size;    /* of the file when all is written */
    long flushed; /* of the file at the last flush */
    int error;    /* errno of what failed; the file is given up then */
    bool told;    /* and that has been said */
};

struct usbip_usbmon_file *usbip_usbmon_file_open(const char *path,
                                                 char error_text[USBIP_USBMON_ERROR_SIZE])
{
    struct usbip_usbmon_file *file = calloc(1, sizeof *file);
    FILE *stream = fopen(path, "wbe");
    if (!file || !stream) {
        snprintf(error_text, USBIP_USBMON_ERROR_SIZE, "cannot write %.300s: %s", path,
                 strerror(file ? errno : ENOMEM));
        if (stream)
            fclose(stream);
        free(file);
        return NULL;
    }
    setvbuf(stream, NULL, _IOFBF, WRITE_BUFFER_SIZE);
    file->path = strdup(path);
    file->pcap = pcap_open_dead(DLT_USB_LINUX_MMAPPED, USBIP_USBMON_MAX_RECORD);
    file->dumper = file->pcap ? pcap_dump_fopen(file->pcap, stream) : NULL;
    if (!file->dumper)
        fclose(stream);
    if (!file->dumper || !file->path) {
        snprintf(error_text, USBIP_USBMON_ERROR_SIZE, "cannot write %.300s: %s", path,
                 file->pcap ? pcap_geterr(file->pcap) : "out of memory");
        usbip_usbmon_file_close(file);
        return NULL;
    }
    file->size = FILE_HEADER_SIZE;
    if (usbip_usbmon_file_flush(file, error_text) < 0) {
        usbip_usbmon_file_close(file);
        return NULL;
    }
    return file;
}

void usbip_usbmon_file_write(struct usbip_usbmon_file *file, const pcap_usb_header_mmapped *header,
                             uint64_t time_us, const usb_isodesc *descriptors, const uint8_t *data,
                             size_t size, size_t missing)
{
    size_t descriptor_size = header->ndesc * sizeof *descriptors;
    pcap_usb_header_mmapped complete = *header;
    if (file->error)
        return;
    complete.data_len = (uint32_t)(descriptor_size + size);
    complete.ts_sec = (int64_t)(time_us / MICROSECONDS);
    complete.ts_usec = (int32_t)(time_us % MICROSECONDS);
    file->record.size = 0;
    if (usbip_buffer_append(&file->record, &complete, sizeof complete) < 0 ||
        usbip_buffer_append(&file->record, descriptors, descriptor_size) < 0 ||
        usbip_buffer_append(&file->record, data, size) < 0) {
        file->error = ENOMEM;
        return;
    }
    const struct pcap_pkthdr packet = {
        .ts = {.tv_sec = (time_t)complete.ts_sec, .tv_usec = complete.ts_usec},
        .caplen = (bpf_u_int32)file->record.size,
        .len = (bpf_u_int32)(file->record.size + missing),
    };
    pcap_dump((u_char *)file->dumper, &packet, file->record.data);
    if (ferror(pcap_dump_file(file->dumper)))
        file->error = errno;
    file->size += RECORD_HEADER_SIZE + (long)file->record.size;
}

/* What is half written goes; the file stays one that can be read. */
static void cut_to_whole_records(struct usbip_usbmon_file *file)
{
    FILE *stream = pcap_dump_file(file->dumper);
    __fpurge(stream);
    if (ftruncate(fileno(stream), file->flushed) < 0)
        return; /* a device or a pipe: nothing can be taken back there */
}

int usbip_usbmon_file_flush(struct usbip_usbmon_file *file,
                            char error_text[USBIP_USBMON_ERROR_SIZE])
{
    if (!file->error && file->size != file->flushed) {
        if (pcap_dump_flush(file->dumper) < 0)
            file->error = errno;
        else
            file->flushed = file->size;
    }
    if (!file->error || file->told)
        return 0;
    file->told = true;
    cut_to_whole_records(file);
    snprintf(error_text, USBIP_USBMON_ERROR_SIZE, "cannot write %.300s: %s", file->path,
             strerror(file->error));
    return -1;
}

void usbip_usbmon_file_close(struct usbip_usbmon_file *file)
{
    if (!file)
        return;
    if (file->dumper)
        pcap_dump_close(file->dumper);
    if (file->pcap)
        pcap_close(file->pcap);
    usbip_buffer_free(&file->record);
    free(file->path);
    free(file);
}
