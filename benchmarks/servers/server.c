/*
 * The floor: what the kernel alone takes. One thread, one epoll, no clocks, no memory per peer.
 *
 *   server PORT lesson     a first read that is "1" gets the welcome, any other the goodbye
 *   server PORT session    "sesame" and a line feed, in one read, open an echo; anything else a goodbye
 *   server PORT echo       an echo without a handshake
 */
#define _GNU_SOURCE
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BACKLOG = 4096, BATCH = 256, MAX_DESCRIPTOR = 1 << 20, CHUNK = 262144 };

static const char WELCOME[] = "welcome to server!", GOODBYE[] = "please go out!";
static const char WORD[] = "sesame\n", GRANTED[] = "OK\n", DENIED[] = "NO\n";

static char accepted[MAX_DESCRIPTOR];
static char chunk[CHUNK];

/* Returns whether the peer stays. Waits for a peer that does not read, as no real server may. */
static int echo(int fd, const char *from, ssize_t size) {
    while (size > 0) {
        ssize_t count = send(fd, from, size, MSG_NOSIGNAL);
        if (count < 0) {
            fd_set writable;
            FD_ZERO(&writable);
            if (fd >= FD_SETSIZE) return 0;
            FD_SET(fd, &writable);
            if (select(fd + 1, NULL, &writable, NULL, NULL) < 0) return 0;
            continue;
        }
        from += count;
        size -= count;
    }
    return 1;
}

static int lesson(int fd) {
    ssize_t count = recv(fd, chunk, 1024, 0);
    if (count == 1 && chunk[0] == '1') send(fd, WELCOME, sizeof WELCOME - 1, MSG_NOSIGNAL);
    else if (count > 0) send(fd, GOODBYE, sizeof GOODBYE - 1, MSG_NOSIGNAL);
    return 0;
}

static int echo_once(int fd) {
    ssize_t count = recv(fd, chunk, CHUNK, 0);
    return count > 0 && echo(fd, chunk, count);
}

static int session(int fd) {
    if (accepted[fd]) return echo_once(fd);
    ssize_t count = recv(fd, chunk, CHUNK, 0), word = sizeof WORD - 1;
    if (count < word || memcmp(chunk, WORD, word)) {
        if (count > 0) send(fd, DENIED, sizeof DENIED - 1, MSG_NOSIGNAL);
        return 0;
    }
    accepted[fd] = 1;
    send(fd, GRANTED, sizeof GRANTED - 1, MSG_NOSIGNAL);
    return echo(fd, chunk + word, count - word);
}

int main(int count, char **words) {
    if (count != 3) return 2;
    int (*serve)(int) = *words[2] == 'l' ? lesson : *words[2] == 's' ? session : echo_once;
    int on = 1, port = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(atoi(words[1]))};
    here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(port, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(port, (struct sockaddr *)&here, sizeof here) || listen(port, BACKLOG)) {
        perror("server");
        return 1;
    }
    int poller = epoll_create1(0);
    struct epoll_event events[BATCH], readable = {.events = EPOLLIN, .data.fd = port};
    epoll_ctl(poller, EPOLL_CTL_ADD, port, &readable);
    for (;;) {
        int happened = epoll_wait(poller, events, BATCH, -1);
        for (int i = 0; i < happened; i++) {
            int fd = events[i].data.fd;
            if (fd != port) {
                if (!serve(fd)) close(fd);
                continue;
            }
            while ((fd = accept4(port, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                accepted[fd] = 0;
                readable.data.fd = fd;
                epoll_ctl(poller, EPOLL_CTL_ADD, fd, &readable);
            }
        }
    }
}
