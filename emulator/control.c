#include "emulator/control.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <uv.h>

#include "emulator/control_request.h"

enum { BACKLOG = 16, READ_SIZE = 4096 };

struct control_client {
    uv_pipe_t pipe;
    struct usbip_control *control;
    struct control_client *next, *previous;
    char line[USBIP_CONTROL_MAX_LINE];
    size_t size;
    bool skips;       /* the rest of a line that is too long */
    bool ended;       /* nothing more will be asked */
    unsigned writing; /* replies on their way */
};

struct usbip_control {
    struct usbip_control_options options;
    uv_loop_t *loop;
    uv_pipe_t listener;
    struct control_client *clients;
    unsigned open_handles; /* the listener, and connections that are not closed yet */
    bool closing;
    char read_buffer[READ_SIZE];
};

struct reply {
    uv_write_t write;
    char *text;
    bool quits;
};

static void free_when_closed(struct usbip_control *control)
{
    if (control->closing && control->open_handles == 0)
        free(control);
}

/* ---- Clients ---- */

static void on_client_closed(uv_handle_t *handle)
{
    struct control_client *client = handle->data;
    struct usbip_control *control = client->control;
    free(client);
    control->open_handles--;
    free_when_closed(control);
}

static void close_client(struct control_client *client)
{
    if (uv_is_closing((uv_handle_t *)&client->pipe))
        return;
    if (client->previous)
        client->previous->next = client->next;
    else
        client->control->clients = client->next;
    if (client->next)
        client->next->previous = client->previous;
    uv_close((uv_handle_t *)&client->pipe, on_client_closed);
}

static void close_if_done(struct control_client *client)
{
    if (client->ended && client->writing == 0)
        close_client(client);
}

static void on_written(uv_write_t *request, int status)
{
    struct reply *reply = request->data;
    struct control_client *client = request->handle->data;
    const struct usbip_control_options *options = &client->control->options;
    bool quits = reply->quits && !client->control->closing;
    free(reply->text);
    free(reply);
    client->writing--;
    if (status < 0)
        close_client(client);
    else
        close_if_done(client);
    if (quits)
        options->quit(options->context);
}

/* Takes `text`. */
static void send_reply(struct control_client *client, char *text, bool quits)
{
    uv_stream_t *stream = (uv_stream_t *)&client->pipe;
    struct reply *reply = text ? calloc(1, sizeof *reply) : NULL;
    const struct usbip_log *log = &client->control->options.bus->log;
    if (!reply) {
        usbip_log(log, USBIP_LOG_ERROR, "out of memory, a control connection is closed");
        free(text);
        close_client(client);
        return;
    }
    uv_buf_t buffer = uv_buf_init(text, (unsigned)strlen(text));
    reply->text = text;
    reply->quits = quits;
    reply->write.data = reply;
    client->writing++;
    if (uv_write(&reply->write, stream, &buffer, 1, on_written) < 0) {
        client->writing--;
        free(text);
        free(reply);
        close_client(client);
    } else if (uv_stream_get_write_queue_size(stream) > USBIP_CONTROL_MAX_UNSENT) {
        usbip_log(log, USBIP_LOG_ERROR,
                  "a control client has not read %zu bytes (limit %d), its connection is closed",
                  uv_stream_get_write_queue_size(stream), USBIP_CONTROL_MAX_UNSENT);
        close_client(client);
    }
}

static void answer_line(struct control_client *client)
{
    bool quits = false;
    char *reply =
        usbip_control_answer(client->control->options.bus, client->line, client->size, &quits);
    client->size = 0;
    send_reply(client, reply, quits);
}

static void take_byte(struct control_client *client, char byte)
{
    if (byte == '\n') {
        if (!client->skips && client->size > 0)
            answer_line(client);
        client->skips = false;
        client->size = 0;
    } else if (!client->skips && client->size == sizeof client->line) {
        char text[80];
        client->skips = true;
        snprintf(text, sizeof text, "a request has at most %d bytes", USBIP_CONTROL_MAX_LINE);
        send_reply(client, usbip_control_error(text), false);
    } else if (!client->skips) {
        client->line[client->size++] = byte;
    }
}

static void on_allocate(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    const struct control_client *client = handle->data;
    (void)suggested;
    *buffer = uv_buf_init(client->control->read_buffer, READ_SIZE);
}

static void on_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *buffer)
{
    struct control_client *client = stream->data;
    for (ssize_t i = 0; i < size && !uv_is_closing((uv_handle_t *)stream); i++)
        take_byte(client, buffer->base[i]);
    if (size >= 0 || uv_is_closing((uv_handle_t *)stream))
        return;
    if (size == UV_EOF)
        take_byte(client, '\n'); /* the last line may have none */
    uv_read_stop(stream);
    client->ended = true;
    close_if_done(client);
}

static void on_connection(uv_stream_t *listener, int status)
{
    struct usbip_control *control = listener->data;
    struct control_client *client = status == 0 ? calloc(1, sizeof *client) : NULL;
    if (!client)
        return;
    client->control = control;
    client->pipe.data = client;
    uv_pipe_init(control->loop, &client->pipe, 0);
    control->open_handles++;
    client->next = control->clients;
    if (client->next)
        client->next->previous = client;
    control->clients = client;
    if (uv_accept(listener, (uv_stream_t *)&client->pipe) < 0) {
        close_client(client);
    } else if (control->open_handles > 1 + USBIP_CONTROL_MAX_CLIENTS) {
        char text[80];
        snprintf(text, sizeof text, "there are %d control connections already",
                 USBIP_CONTROL_MAX_CLIENTS);
        client->ended = true;
        send_reply(client, usbip_control_error(text), false);
    } else if (uv_read_start((uv_stream_t *)&client->pipe, on_allocate, on_read) < 0) {
        close_client(client);
    }
}

/* ---- Life ---- */

/* Whether somebody accepts connections there: 0, or the errno of the attempt. */
static int try_connect(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), result = 0;
    if (fd < 0)
        return errno;
    strcpy(address.sun_path, path);
    if (connect(fd, (const struct sockaddr *)&address, sizeof address) < 0)
        result = errno;
    close(fd);
    return result;
}

/* Removes the socket of an emulator that is gone. Returns false when the path is taken. */
static bool make_way(const char *path, char error_text[USBIP_CONTROL_ERROR_SIZE])
{
    struct stat status;
    if (*path == '\0') {
        snprintf(error_text, USBIP_CONTROL_ERROR_SIZE, "a control socket needs a path, not \"\"");
        return false;
    }
    if (strlen(path) >= sizeof((struct sockaddr_un *)0)->sun_path) {
        snprintf(error_text, USBIP_CONTROL_ERROR_SIZE,
                 "the path of a control socket has at most %zu bytes, not %zu: %.80s...",
                 sizeof((struct sockaddr_un *)0)->sun_path - 1, strlen(path), path);
        return false;
    }
    if (lstat(path, &status) < 0)
        return true; /* if it is worse than not being there, bind() says so */
    if (!S_ISSOCK(status.st_mode)) {
        snprintf(error_text, USBIP_CONTROL_ERROR_SIZE,
                 "%s exists and is not a socket; choose another path for the control socket", path);
        return false;
    }
    int error = try_connect(path);
    if (error == ECONNREFUSED && unlink(path) == 0)
        return true;
    if (error == 0 || error == EAGAIN)
        snprintf(error_text, USBIP_CONTROL_ERROR_SIZE,
                 "%s is the control socket of another emulator that runs; choose another path",
                 path);
    else
        snprintf(error_text, USBIP_CONTROL_ERROR_SIZE, "%s cannot be replaced: %s", path,
                 strerror(errno));
    return false;
}

static bool has_folder(const char *path)
{
    char folder[sizeof((struct sockaddr_un *)0)->sun_path];
    const char *slash = strrchr(path, '/');
    snprintf(folder, sizeof folder, "%.*s", slash ? (int)(slash + 1 - path) : 1,
             slash ? path : ".");
    return access(folder, F_OK) == 0;
}

static void on_listener_closed(uv_handle_t *handle)
{
    struct usbip_control *control = handle->data;
    control->open_handles--;
    free_when_closed(control);
}

struct usbip_control *usbip_control_new(struct uv_loop_s *loop, const char *path,
                                        const struct usbip_control_options *options,
                                        char error_text[USBIP_CONTROL_ERROR_SIZE])
{
    if (!make_way(path, error_text))
        return NULL;
    struct usbip_control *control = calloc(1, sizeof *control);
    if (!control) {
        snprintf(error_text, USBIP_CONTROL_ERROR_SIZE, "out of memory");
        return NULL;
    }
    control->options = *options;
    control->loop = loop;
    uv_pipe_init(loop, &control->listener, 0);
    control->listener.data = control;
    control->open_handles = 1;
    mode_t mask = umask(S_IXUSR | S_IRWXG | S_IRWXO);
    int status = uv_pipe_bind(&control->listener, path);
    umask(mask);
    if (status == 0)
        status = uv_listen((uv_stream_t *)&control->listener, BACKLOG, on_connection);
    if (status == 0)
        return control;
    /* libuv says EACCES for a folder that is not there too. */
    snprintf(error_text, USBIP_CONTROL_ERROR_SIZE, "cannot make the control socket %s: %s", path,
             status == UV_EACCES && !has_folder(path) ? "its folder does not exist"
                                                      : uv_strerror(status));
    usbip_control_close(control);
    return NULL;
}

void usbip_control_close(struct usbip_control *control)
{
    if (!control || control->closing)
        return;
    control->closing = true;
    while (control->clients)
        close_client(control->clients);
    uv_close((uv_handle_t *)&control->listener, on_listener_closed);
}
