/* Load for paced streams: keeps a number of streams open and measures how long each event was under way.
 *
 *   paced PORT STREAMS SECONDS TOKEN BODY_FILE
 *
 * Every event carries '@' and the 16 digits of the monotonic clock at which the upstream wrote it (upstream.c).
 * A stream that ends with [DONE] is asked again on the same connection. Prints one JSON object; any answer but
 * 200, or a connection closed early, ends the run with a sentence on stderr.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

enum { MOST_STREAMS = 1024, STAMP_DIGITS = 16, MOST_DELAY_US = 1000000 };

struct stream {
    int fd;
    int is_answered;   /* the status line has been read */
    int digits;        /* of the stamp being read; -1 outside one */
    uint64_t stamp_us;
    size_t matched;    /* bytes of END[part] seen */
    int part;          /* 0: looking for [DONE], 1: for the last HTTP chunk */
};

static const char *const END[2] = {"[DONE]", "0\r\n\r\n"};
static struct stream streams[MOST_STREAMS];
static char request[65536];
static size_t request_length;
static uint32_t delays[MOST_DELAY_US + 1];
static uint64_t chunks;

static void stop(const char *why, const char *detail)
{
    fprintf(stderr, "paced: %s%s\n", why, detail);
    exit(1);
}

static uint64_t now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

static void build_request(const char *port, const char *token, const char *body_file)
{
    char body[32768];
    FILE *file = fopen(body_file, "rb");
    size_t length = file ? fread(body, 1, sizeof body, file) : 0;
    if (!length || length == sizeof body)
        stop("cannot use the body in ", body_file);
    fclose(file);
    int head = snprintf(request, sizeof request,
                        "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:%s\r\nAuthorization: Bearer %s\r\n"
                        "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
                        port, token, length);
    if (head < 0 || (size_t)head + length > sizeof request)
        stop("the request is too long", "");
    memcpy(request + head, body, length);
    request_length = (size_t)head + length;
}

static void ask(struct stream *s)
{
    s->is_answered = s->part = 0;
    s->matched = 0;
    s->digits = -1;
    if (send(s->fd, request, request_length, MSG_NOSIGNAL) != (ssize_t)request_length)
        stop("cannot send a request: ", strerror(errno));
}

static void take(struct stream *s, const char *bytes, size_t length, uint64_t now)
{
    /* The status line comes in one piece with every server measured here. */
    if (!s->is_answered && (length < 12 || memcmp(bytes + 8, " 200", 4) != 0)) {
        char line[256];
        snprintf(line, sizeof line, "%.*s", (int)(length < 200 ? length : 200), bytes);
        stop("the answer is not 200: ", line);
    }
    s->is_answered = 1;
    for (size_t i = 0; i < length; i++) {
        char c = bytes[i];
        if (c == '@') {
            s->digits = 0;
            s->stamp_us = 0;
        } else if (s->digits >= 0 && c >= '0' && c <= '9') {
            s->stamp_us = s->stamp_us * 10 + (uint64_t)(c - '0');
            if (++s->digits == STAMP_DIGITS) {
                uint64_t delay = now > s->stamp_us ? now - s->stamp_us : 0;
                delays[delay < MOST_DELAY_US ? delay : MOST_DELAY_US]++;
                chunks++;
                s->digits = -1;
            }
        } else {
            s->digits = -1;
        }
        s->matched = c == END[s->part][s->matched] ? s->matched + 1 : c == END[s->part][0];
        if (END[s->part][s->matched] == 0) {
            s->matched = 0;
            if (++s->part == 2) {
                ask(s);
                return;
            }
        }
    }
}

static unsigned percentile_us(double share)
{
    uint64_t wanted = (uint64_t)((double)chunks * share), seen = 0;
    for (unsigned delay = 0; delay < MOST_DELAY_US; delay++)
        if ((seen += delays[delay]) > wanted)
            return delay;
    return MOST_DELAY_US;
}

int main(int count, char **arguments)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (count != 6)
        stop("usage: paced PORT STREAMS SECONDS TOKEN BODY_FILE", "");
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)atoi(arguments[1])),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int wanted = atoi(arguments[2]), on = 1, epoll_fd = epoll_create1(0);
    if (wanted < 1 || wanted > MOST_STREAMS)
        stop("1 to 1024 streams, not ", arguments[2]);
    build_request(arguments[1], arguments[4], arguments[5]);

    uint64_t start = now_us(), end = start + (uint64_t)(atof(arguments[3]) * 1e6), now = start;
    for (struct stream *s = streams; s < streams + wanted; s++) {
        s->fd = socket(AF_INET, SOCK_STREAM, 0);
        if (s->fd < 0 || connect(s->fd, (struct sockaddr *)&address, sizeof address))
            stop("cannot connect: ", strerror(errno));
        setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = s};
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, s->fd, &event);
        ask(s);
    }
    while (now < end) {
        struct epoll_event events[256];
        int ready = epoll_wait(epoll_fd, events, 256, (int)((end - now) / 1000) + 1);
        for (int i = 0; i < ready; i++) {
            struct stream *s = events[i].data.ptr;
            char bytes[65536];
            ssize_t got = recv(s->fd, bytes, sizeof bytes, 0);
            if (got <= 0)
                stop("a stream was cut: ", got ? strerror(errno) : "the connection was closed");
            take(s, bytes, (size_t)got, now_us());
        }
        now = now_us();
    }
    printf("{\"units\":%llu,\"duration_us\":%llu,\"p50_us\":%u,\"p99_us\":%u,\"errors\":0}\n",
           (unsigned long long)chunks, (unsigned long long)(now - start),
           percentile_us(0.5), percentile_us(0.99));
    return 0;
}
