/*
 * The load: clients of 127.0.0.1 that do one thing, check every byte and count what goes wrong.
 *
 *   load shake PORT COUNT CONCURRENCY TOKEN REPLY stay|leave
 *       connect, send TOKEN, expect REPLY and then EOF (stay), or leave once REPLY is there (leave);
 *       COUNT times, CONCURRENCY at a time, a new one as soon as an old one is done
 *   load hold PORT COUNT TOKEN
 *       open COUNT connections, send TOKEN, and keep them
 *   load stream PORT MEBIBYTES TOKEN REPLY
 *       after TOKEN and REPLY, send so much through a server that echoes, on one connection
 *   load ping PORT SECONDS TOKEN REPLY
 *       after TOKEN and REPLY, send 64 bytes, wait for their echo, think for a millisecond, again
 *
 * TOKEN and REPLY are in hex, "" is nothing. hold, stream and ping print "ready" and wait for a line
 * on standard input; after the result, which is one line of NAME=VALUE, stream waits for another and
 * keeps its connection until then. SIGTERM makes shake finish early. Nothing outlives LONGEST.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    LONGEST = 300,       /* seconds */
    STALLED = 10000,     /* milliseconds without any event */
    BATCH = 256,         /* events of one epoll_wait() */
    MAX_REPLY = 4096,
    MAX_PINGS = 1000000,
    CHUNK = 65536,
    WINDOW = 1 << 20,    /* bytes on their way through an echo */
    SOURCES = 200
};

typedef struct {
    unsigned char bytes[MAX_REPLY];
    size_t size;
} Text;

static struct sockaddr_in server;
static volatile sig_atomic_t stopped;

static void stop(int signal) { (void)signal; stopped = 1; }

static void die(const char *what) { perror(what); exit(1); }

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec * 1e-9;
}

static Text text(const char *hex) {
    Text made = {.size = strlen(hex) / 2};
    if (made.size > MAX_REPLY) { fprintf(stderr, "load: a text is too long\n"); exit(2); }
    for (size_t i = 0; i < made.size; i++) sscanf(hex + 2 * i, "%2hhx", &made.bytes[i]);
    return made;
}

/* From many addresses, so that the ports of one, of which each ended connection keeps one for a
   minute, do not run out. The port itself is chosen in connect(), see ip(7). */
static int client(int flags) {
    static unsigned made;
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | flags, 0);
    if (fd < 0) die("load: socket");
    struct sockaddr_in source = {.sin_family = AF_INET};
    source.sin_addr.s_addr = htonl(0x7f000101u + made++ % SOURCES);
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&source, sizeof source)) die("load: bind");
    return fd;
}

static int connected(void) {
    int on = 1, fd = client(0);
    if (connect(fd, (struct sockaddr *)&server, sizeof server)) die("load: connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

static void receive_exactly(int fd, unsigned char *into, size_t size) {
    for (size_t got = 0; got < size;) {
        ssize_t count = recv(fd, into + got, size - got, 0);
        if (count <= 0) die("load: the server left");
        got += count;
    }
}

static int session(Text token, Text reply) {
    unsigned char got[MAX_REPLY];
    int fd = connected();
    if (send(fd, token.bytes, token.size, MSG_NOSIGNAL) != (ssize_t)token.size) die("load: send");
    receive_exactly(fd, got, reply.size);
    if (memcmp(got, reply.bytes, reply.size)) { fprintf(stderr, "load: wrong reply\n"); exit(1); }
    return fd;
}

static void wait_for_line(void) {
    int byte;
    do byte = getchar(); while (byte != '\n' && byte != EOF);
}

static void ready(void) {
    printf("ready\n");
    fflush(stdout);
    wait_for_line();
}

static int ascending(const void *left, const void *right) {
    float a = *(const float *)left, b = *(const float *)right;
    return a < b ? -1 : a > b;
}

/* Prints "p50=… p99=… max=…", in microseconds. */
static void print_percentiles(float *times, long count) {
    if (!count) times[count++] = 0;
    qsort(times, count, sizeof *times, ascending);
    printf("p50=%.1f p99=%.1f max=%.1f\n", times[count / 2], times[count * 99 / 100],
           times[count - 1]);
}

typedef struct {
    int fd;
    int has_sent;
    size_t size;
    double begun;
    unsigned char got[128];
} Slot;

static int poller;

static void begin(Slot *slot, unsigned index) {
    slot->begun = now();
    slot->fd = client(SOCK_NONBLOCK);
    slot->has_sent = 0;
    slot->size = 0;
    if (connect(slot->fd, (struct sockaddr *)&server, sizeof server) && errno != EINPROGRESS)
        die("load: connect");
    struct epoll_event writable = {.events = EPOLLOUT, .data.u32 = index};
    epoll_ctl(poller, EPOLL_CTL_ADD, slot->fd, &writable);
}

typedef enum { UNDECIDED, GOOD, BAD } Verdict;

static Verdict speak(Slot *slot, unsigned index, const Text *token) {
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(slot->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error) return BAD;
    if (send(slot->fd, token->bytes, token->size, MSG_NOSIGNAL) != (ssize_t)token->size) return BAD;
    slot->has_sent = 1;
    struct epoll_event readable = {.events = EPOLLIN, .data.u32 = index};
    epoll_ctl(poller, EPOLL_CTL_MOD, slot->fd, &readable);
    return UNDECIDED;
}

static Verdict hear(Slot *slot, const Text *reply, int leave) {
    for (;;) {
        ssize_t count = recv(slot->fd, slot->got + slot->size, sizeof slot->got - slot->size, 0);
        if (count < 0) return errno == EAGAIN ? UNDECIDED : BAD;
        slot->size += count;
        if (slot->size > reply->size || memcmp(slot->got, reply->bytes, slot->size)) return BAD;
        if (count == 0) return !leave && slot->size == reply->size ? GOOD : BAD;
        if (leave && slot->size == reply->size) return GOOD;
    }
}

static int shake(long count, unsigned concurrency, Text token, Text reply, int leave) {
    long begun = 0, done = 0, failed = 0;
    Slot *slots = calloc(concurrency, sizeof *slots);
    float *times = malloc((count + 1) * sizeof *times);
    struct epoll_event events[BATCH];
    poller = epoll_create1(0);
    signal(SIGTERM, stop);
    double start = now();
    for (unsigned i = 0; i < concurrency && begun < count; i++, begun++) begin(&slots[i], i);
    while (done < begun) {
        int happened = epoll_wait(poller, events, BATCH, STALLED);
        if (happened < 0 && errno == EINTR) continue;
        if (happened <= 0) { failed += count - done; break; }
        for (int i = 0; i < happened; i++) {
            unsigned index = events[i].data.u32;
            Slot *slot = &slots[index];
            Verdict verdict = slot->has_sent ? hear(slot, &reply, leave) : speak(slot, index, &token);
            if (verdict == UNDECIDED) continue;
            failed += verdict == BAD;
            close(slot->fd);
            times[done++] = (now() - slot->begun) * 1e6;
            if (begun < count && !stopped) { begin(slot, index); begun++; }
        }
    }
    printf("done=%ld failed=%ld seconds=%.6f ", done, failed, now() - start);
    print_percentiles(times, done);
    return 0;
}

static int hold(long count, Text token) {
    int *held = malloc(count * sizeof *held);
    for (long i = 0; i < count; i++) {
        held[i] = connected();
        if (token.size && send(held[i], token.bytes, token.size, MSG_NOSIGNAL) < 0) die("load: send");
    }
    ready();
    long closed = 0;
    for (long i = 0; i < count; i++) {
        unsigned char byte;
        ssize_t got = recv(held[i], &byte, 1, MSG_DONTWAIT);
        closed += got >= 0 || errno != EAGAIN;
    }
    printf("closed=%ld\n", closed);
    return 0;
}

/* A pattern whose period divides neither a page nor a chunk: bytes that are lost, doubled or swapped
   do not fit it. */
enum { PERIOD = 251 };
static unsigned char pattern[PERIOD + CHUNK];

static int stream(long mebibytes, Text token, Text reply) {
    long total = mebibytes << 20, sent = 0, received = 0;
    unsigned char chunk[CHUNK];
    for (size_t i = 0; i < sizeof pattern; i++) pattern[i] = i % PERIOD;
    int fd = session(token, reply);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    ready();
    double start = now();
    while (received < total) {
        int may_send = sent < total && sent - received < WINDOW;
        struct pollfd waiting = {.fd = fd, .events = POLLIN | (may_send ? POLLOUT : 0)};
        if (poll(&waiting, 1, STALLED) <= 0) { fprintf(stderr, "load: stalled\n"); return 1; }
        if (waiting.revents & POLLOUT) {
            size_t size = total - sent < CHUNK ? total - sent : CHUNK;
            ssize_t count = send(fd, pattern + sent % PERIOD, size, MSG_NOSIGNAL);
            if (count < 0 && errno != EAGAIN) die("load: send");
            if (count > 0) sent += count;
        }
        if (waiting.revents & (POLLIN | POLLHUP | POLLERR)) {
            ssize_t count = recv(fd, chunk, CHUNK, 0);
            if (count == 0 || (count < 0 && errno != EAGAIN)) die("load: the server left");
            if (count > 0 && memcmp(chunk, pattern + received % PERIOD, count)) {
                fprintf(stderr, "load: wrong echo\n");
                return 1;
            }
            if (count > 0) received += count;
        }
    }
    printf("seconds=%.6f\n", now() - start);
    fflush(stdout);
    wait_for_line();
    return 0;
}

static int ping(double seconds, Text token, Text reply) {
    unsigned char said[64] = "ping", heard[sizeof said];
    float *times = malloc(MAX_PINGS * sizeof *times);
    long count = 0;
    int fd = session(token, reply);
    ready();
    for (double end = now() + seconds; now() < end && count < MAX_PINGS; count++) {
        double start = now();
        if (send(fd, said, sizeof said, MSG_NOSIGNAL) != sizeof said) die("load: send");
        receive_exactly(fd, heard, sizeof heard);
        times[count] = (now() - start) * 1e6;
        if (memcmp(said, heard, sizeof said)) { fprintf(stderr, "load: wrong echo\n"); return 1; }
        usleep(1000);
    }
    printf("done=%ld ", count);
    print_percentiles(times, count);
    return 0;
}

int main(int count, char **words) {
    alarm(LONGEST);
    server.sin_family = AF_INET;
    server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    server.sin_port = htons(count > 2 ? atoi(words[2]) : 0);
    const char *what = count > 1 ? words[1] : "";
    if (!strcmp(what, "shake") && count == 8)
        return shake(atol(words[3]), atoi(words[4]), text(words[5]), text(words[6]),
                     !strcmp(words[7], "leave"));
    if (!strcmp(what, "hold") && count == 5) return hold(atol(words[3]), text(words[4]));
    if (!strcmp(what, "stream") && count == 6)
        return stream(atol(words[3]), text(words[4]), text(words[5]));
    if (!strcmp(what, "ping") && count == 6)
        return ping(atof(words[3]), text(words[4]), text(words[5]));
    fprintf(stderr, "load: see the top of load.c\n");
    return 2;
}
