/* Files of captures: gzip or not, pcap or pcapng, by libpcap. */
#include <errno.h>
#include <pcap/pcap.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <zlib.h>

#include "emulator/capture/capture_internal.h"

enum {
    GZIP_BUFFER_SIZE = 128 << 10,
    FILE_BUFFER_SIZE = 128 << 10,
    MAGIC_SIZE = 4,
};

static const uint8_t pcapng_magic[MAGIC_SIZE] = {0x0a, 0x0d, 0x0d, 0x0a};

struct source {
    gzFile gzip; /* which also reads what is not compressed */
    struct capture_pcapng_filter *filter;
    char *buffer; /* of the FILE that libpcap reads */
    pcap_t *pcap;
};

const struct capture_format *capture_find_format(int link_type)
{
    static const struct {
        const struct capture_format *formats;
        size_t count;
    } groups[] = {
        {capture_formats_usbmon, 2},
        {&capture_format_usbpcap, 1},
        {capture_formats_packets, 4},
        {capture_formats_network, 8},
    };
    for (size_t i = 0; i < sizeof groups / sizeof groups[0]; i++) {
        for (size_t j = 0; j < groups[i].count; j++) {
            if (groups[i].formats[j].link_type == link_type)
                return &groups[i].formats[j];
        }
    }
    return NULL;
}

/* ---- Opening ---- */

static long read_gzip(void *gzip, void *bytes, size_t size)
{
    return gzread(gzip, bytes, (unsigned)(size < INT32_MAX ? size : INT32_MAX));
}

static ssize_t read_cookie(void *cookie, char *bytes, size_t size)
{
    struct source *source = cookie;
    long count = source->filter ? capture_pcapng_filter_read(source->filter, bytes, size)
                                : read_gzip(source->gzip, bytes, size);
    if (count < 0)
        errno = EIO;
    return count;
}

/* libpcap hides what it could not read. */
static const char *gzip_error(const struct source *source)
{
    int number;
    gzerror(source->gzip, &number);
    if (number == Z_BUF_ERROR)
        return "its gzip data end too early: it was cut off, copy it again";
    return number == Z_OK || number == Z_STREAM_END ? NULL
                                                    : "its gzip data are damaged: copy it again";
}

/* Returns NULL with errno set when the file cannot be opened or is none. */
static gzFile open_file(const char *path, long long *size)
{
    struct stat status;
    if (stat(path, &status) < 0)
        return NULL;
    if (S_ISDIR(status.st_mode)) {
        errno = EISDIR;
        return NULL;
    }
    if (!S_ISREG(status.st_mode)) {
        errno = ESPIPE; /* it is read twice */
        return NULL;
    }
    *size = status.st_size;
    return gzopen(path, "rb");
}

static int open_gzip(struct capture_builder *builder, struct source *source,
                     uint8_t magic[MAGIC_SIZE])
{
    long long file_size = 0;
    errno = 0;
    source->gzip = open_file(builder->capture->path, &file_size);
    if (!source->gzip && errno == ESPIPE)
        return capture_fail(builder, 0, "is a pipe or a device: copy what it has to a file");
    if (!source->gzip)
        return capture_fail(builder, 0, "cannot be read: %s",
                            errno ? strerror(errno) : "out of memory");
    gzbuffer(source->gzip, GZIP_BUFFER_SIZE);
    int count = gzread(source->gzip, magic, MAGIC_SIZE);
    builder->capture->compressed = !gzdirect(source->gzip);
    if (count < MAGIC_SIZE && gzip_error(source))
        return capture_fail(builder, 0, "%s", gzip_error(source));
    if (count == 0 && file_size == 0)
        return capture_fail(builder, 0, "is empty: nothing was recorded");
    if (count < MAGIC_SIZE)
        return capture_fail(builder, 0, "has only %d bytes and is no capture", count);
    gzrewind(source->gzip);
    return 0;
}

static int open_pcap(struct capture_builder *builder, struct source *source)
{
    static const cookie_io_functions_t functions = {.read = read_cookie};
    char text[PCAP_ERRBUF_SIZE];
    FILE *file = fopencookie(source, "rb", functions);
    source->buffer = malloc(FILE_BUFFER_SIZE);
    if (!file || !source->buffer) {
        if (file)
            fclose(file);
        return capture_out_of_memory(builder);
    }
    setvbuf(file, source->buffer, _IOFBF, FILE_BUFFER_SIZE);
    source->pcap = pcap_fopen_offline_with_tstamp_precision(file, PCAP_TSTAMP_PRECISION_NANO, text);
    if (source->pcap)
        return 0;
    fclose(file);
    if (gzip_error(source))
        return capture_fail(builder, 0, "%s", gzip_error(source));
    return capture_fail(builder, 0, "is no capture that can be read (pcap or pcapng): %s", text);
}

static int open_source(struct capture_builder *builder, struct source *source)
{
    uint8_t magic[MAGIC_SIZE];
    if (open_gzip(builder, source, magic) < 0)
        return -1;
    bool is_pcapng = memcmp(magic, pcapng_magic, MAGIC_SIZE) == 0;
    builder->capture->format = is_pcapng ? "pcapng" : "pcap";
    if (is_pcapng) {
        bool failed;
        source->filter = capture_pcapng_filter_new(source->gzip, read_gzip, &failed);
        if (failed)
            return capture_out_of_memory(builder);
        if (gzip_error(source))
            return capture_fail(builder, 0, "%s", gzip_error(source));
        gzrewind(source->gzip);
    }
    return open_pcap(builder, source);
}

static void close_source(struct source *source)
{
    if (source->pcap)
        pcap_close(source->pcap);
    free(source->buffer);
    capture_pcapng_filter_free(source->filter);
    if (source->gzip)
        gzclose(source->gzip);
}

/* ---- Reading ---- */

static int fail_to_read(struct capture_builder *builder, const struct source *source,
                        uint32_t number)
{
    if (gzip_error(source))
        return capture_fail(builder, number, "%s", gzip_error(source));
    const char *text = pcap_geterr(source->pcap);
    if (strstr(text, "truncated"))
        return capture_fail(
            builder, number,
            "the file ends in the middle of it, it was cut off (%s); copy it again, "
            "or keep the records before with: editcap -r FILE NEW 1-%u",
            text, number - 1);
    return capture_fail(builder, number, "cannot be read: %s", text);
}

static uint64_t nanoseconds(const struct pcap_pkthdr *header)
{
    /* Asked for nanoseconds, libpcap puts them where microseconds are. */
    return (uint64_t)header->ts.tv_sec * 1000000000u + (uint64_t)header->ts.tv_usec;
}

static int read_records(struct capture_builder *builder, struct source *source,
                        const struct capture_format *format, void *state)
{
    struct usbip_capture *capture = builder->capture;
    struct pcap_pkthdr *header;
    const u_char *bytes;
    int result;
    while ((result = pcap_next_ex(source->pcap, &header, &bytes)) == 1) {
        if (capture->record_count == USBIP_CAPTURE_MAX_RECORDS)
            return capture_fail(builder, 0, "has more than %d records; split it with editcap -c",
                                USBIP_CAPTURE_MAX_RECORDS);
        struct capture_record record = {
            .number = ++capture->record_count,
            .time_ns = nanoseconds(header),
            .bytes = bytes,
            .size = header->caplen,
            .original_size = header->len > header->caplen ? header->len : header->caplen,
        };
        if (source->filter)
            record.number = capture_pcapng_filter_record(source->filter, record.number);
        if (capture->record_count == 1 || record.time_ns < capture->first_ns)
            capture->first_ns = record.time_ns;
        if (record.time_ns > capture->last_ns)
            capture->last_ns = record.time_ns;
        if (format->read(builder, state, &record) < 0)
            return -1;
    }
    if (result != PCAP_ERROR_BREAK) {
        uint32_t number = capture->record_count + 1;
        if (source->filter)
            number = capture_pcapng_filter_record(source->filter, number);
        return fail_to_read(builder, source, number);
    }
    if (capture->record_count == 0)
        return capture_fail(builder, 0, "holds no record: nothing was recorded");
    return format->end ? format->end(builder, state) : 0;
}

static int read_all(struct capture_builder *builder, struct source *source)
{
    int link_type = pcap_datalink(source->pcap);
    const struct capture_format *format = capture_find_format(link_type);
    if (!format) {
        const char *name = pcap_datalink_val_to_name(link_type);
        return capture_fail(builder, 0,
                            "its link type %s (%d) is none that is read here: usbmon, USBPcap, "
                            "packets of a USB 2.0 bus, or USB/IP in a capture of a network",
                            name ? name : "?", link_type);
    }
    builder->capture->link_type = format->name;
    void *state = calloc(1, format->state_size + 1);
    if (!state)
        return capture_out_of_memory(builder);
    int result = read_records(builder, source, format, state);
    if (format->free)
        format->free(state);
    free(state);
    if (result == 0 && builder->capture->transfer_count == 0 && format->is_network)
        return capture_fail(builder, 0, "no USB/IP is in it, or no transfer");
    if (source->filter)
        builder->capture->other_records = capture_pcapng_filter_left_out(source->filter);
    return result;
}

struct usbip_capture *usbip_capture_load(const char *path,
                                         char error_text[USBIP_CAPTURE_ERROR_SIZE])
{
    struct usbip_capture *capture = calloc(1, sizeof *capture);
    char *copy = strdup(path);
    if (!capture || !copy) {
        free(capture);
        free(copy);
        snprintf(error_text, USBIP_CAPTURE_ERROR_SIZE, "%s: out of memory", path);
        return NULL;
    }
    capture->path = copy;
    struct capture_builder builder = {.capture = capture, .error_text = error_text};
    struct source source = {0};
    int result = open_source(&builder, &source);
    if (result == 0)
        result = read_all(&builder, &source);
    close_source(&source);
    if (result == 0)
        result = capture_finish(&builder);
    capture_builder_free(&builder);
    if (result == 0)
        return capture;
    usbip_capture_free(capture);
    return NULL;
}
