#include "emulator/ring.h"

#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>

enum { ENTRIES = 8 };

enum request { SEND = 1, RECEIVE, OTHER, LIMIT, CANCEL };

struct usbip_ring {
    struct io_uring uring;
    struct __kernel_timespec limit;
    int socket;
    const void *data; /* to be sent; NULL: nothing */
    size_t size;
    unsigned in_flight; /* requests */
    bool over;
    bool broken;
    bool received; /* in this exchange */
    struct usbip_ring_result result;
};

struct usbip_ring *usbip_ring_new(void)
{
    struct usbip_ring *ring = calloc(1, sizeof *ring);
    if (!ring)
        return NULL;
    if (io_uring_queue_init(ENTRIES, &ring->uring,
                            IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN) < 0) {
        free(ring);
        return NULL;
    }
    io_uring_register_ring_fd(&ring->uring); /* without it, it works too */
    return ring;
}

void usbip_ring_free(struct usbip_ring *ring)
{
    if (!ring)
        return;
    io_uring_queue_exit(&ring->uring);
    free(ring);
}

/* There are more entries than kinds of requests, and one of each at most. */
static struct io_uring_sqe *request(struct usbip_ring *ring)
{
    ring->in_flight++;
    return io_uring_get_sqe(&ring->uring);
}

void usbip_ring_begin(struct usbip_ring *ring, int socket, int other, uint64_t limit_us)
{
    ring->socket = socket;
    ring->over = false;
    ring->limit = (struct __kernel_timespec){
        .tv_sec = (int64_t)(limit_us / 1000000),
        .tv_nsec = (int64_t)(limit_us % 1000000 * 1000),
    };
    struct io_uring_sqe *sqe = request(ring);
    io_uring_prep_poll_add(sqe, other, POLLIN);
    io_uring_sqe_set_data64(sqe, OTHER);
    sqe = request(ring);
    io_uring_prep_timeout(sqe, &ring->limit, 0, 0);
    io_uring_sqe_set_data64(sqe, LIMIT);
}

void usbip_ring_send(struct usbip_ring *ring, const void *data, size_t size)
{
    ring->data = data;
    ring->size = size;
}

static void take_completion(struct usbip_ring *ring, const struct io_uring_cqe *cqe)
{
    ring->in_flight--;
    switch (io_uring_cqe_get_data64(cqe)) {
    case SEND:
        ring->result.sent = cqe->res;
        break;
    case RECEIVE:
        /* A thread of the kernel that is waiting for it is interrupted. */
        ring->result.received = cqe->res == -ECANCELED || cqe->res == -EINTR ? -EAGAIN : cqe->res;
        ring->received = true;
        break;
    case OTHER:
    case LIMIT:
        ring->over = true;
        break;
    }
}

/* Waits for so many completions, if nothing interrupts it, and takes all there are. */
static void wait(struct usbip_ring *ring, unsigned count)
{
    struct io_uring_cqe *cqe;
    unsigned head, taken = 0;
    int status = io_uring_submit_and_wait(&ring->uring, count);
    io_uring_for_each_cqe(&ring->uring, head, cqe)
    {
        take_completion(ring, cqe);
        taken++;
    }
    io_uring_cq_advance(&ring->uring, taken);
    /* Nothing is in flight then but what was before, and that is nothing when a turn begins. */
    if (status < 0 && status != -EINTR && status != -EAGAIN && status != -EBUSY)
        ring->over = ring->broken = true;
}

void usbip_ring_end(struct usbip_ring *ring)
{
    ring->over = true;
    /* Again when something was about to begin, and could not be found. */
    while (ring->in_flight > 0 && !ring->broken) {
        if (io_uring_sq_space_left(&ring->uring) > 0) {
            struct io_uring_sqe *sqe = request(ring);
            io_uring_prep_cancel64(sqe, 0, IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL);
            io_uring_sqe_set_data64(sqe, CANCEL);
        }
        wait(ring, 1);
    }
}

struct usbip_ring_result usbip_ring_exchange(struct usbip_ring *ring, void *data, size_t size)
{
    struct io_uring_sqe *sqe;
    unsigned wanted = data ? 1 : 0;
    ring->received = !data;
    ring->result = (struct usbip_ring_result){.received = -EAGAIN};
    if (ring->data) {
        sqe = request(ring);
        io_uring_prep_send(sqe, ring->socket, ring->data, ring->size,
                           MSG_NOSIGNAL | MSG_DONTWAIT | MSG_WAITALL);
        /* What does not all fit has failed, and then nothing waits. */
        if (data)
            io_uring_sqe_set_flags(sqe, IOSQE_IO_LINK);
        io_uring_sqe_set_data64(sqe, SEND);
        ring->data = NULL;
        wanted++;
    }
    if (data) {
        sqe = request(ring);
        io_uring_prep_recv(sqe, ring->socket, data, size, 0);
        io_uring_sqe_set_data64(sqe, RECEIVE);
    }
    do {
        wait(ring, wanted);
        wanted = 1;
    } while (!ring->received && !ring->over);
    if (!ring->received)
        usbip_ring_end(ring);
    return ring->result;
}

ptrdiff_t usbip_ring_receive(const struct usbip_ring *ring, void *data, size_t size)
{
    ptrdiff_t received = recv(ring->socket, data, size, MSG_DONTWAIT);
    return received < 0 ? -errno : received;
}

bool usbip_ring_is_over(const struct usbip_ring *ring)
{
    return ring->over;
}

bool usbip_ring_is_broken(const struct usbip_ring *ring)
{
    return ring->broken;
}
