#include "tests/throughput/child.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static int listen_on_loopback(char address[ADDRESS_SIZE])
{
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof name;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0)
        return -1;
    /* Accepted sockets have it from here; nothing is lost on the way, and BBR would only pace. */
    setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", sizeof "reno" - 1);
    if (bind(fd, (struct sockaddr *)&name, size) < 0 || listen(fd, SOMAXCONN) < 0 ||
        getsockname(fd, (struct sockaddr *)&name, &size) < 0) {
        close(fd);
        return -1;
    }
    snprintf(address, ADDRESS_SIZE, "127.0.0.1:%u", ntohs(name.sin_port));
    return fd;
}

int child_start(void (*serve)(int listener, void *context), void *context,
                char address[ADDRESS_SIZE], char error_text[ERROR_TEXT_SIZE])
{
    int listener = listen_on_loopback(address);
    int parent = (int)getpid();
    int pid = listener >= 0 ? fork() : -1;
    if (pid == 0) {
        /* Asked afterwards: the parent may have ended before. */
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() == parent)
            serve(listener, context);
        _exit(0);
    }
    if (pid < 0)
        snprintf(error_text, ERROR_TEXT_SIZE, "cannot start a server of our own: %s",
                 strerror(errno));
    if (listener >= 0)
        close(listener);
    return pid;
}

void child_stop(int pid)
{
    if (pid <= 0)
        return;
    kill(pid, SIGKILL);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
}
