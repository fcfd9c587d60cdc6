/* A stand-in for a provider: one thread, epoll, HTTP/1.1 on 127.0.0.1, answers built once at start.
 *
 *   upstream            prints the port it listens on and serves until its parent ends or SIGTERM
 *
 * Every POST is answered 200, by what its JSON body says (compact JSON, as clients send it):
 *   otherwise           a chat completion of about 900 bytes with the headers a provider sends
 *   "stream":true       100 events of exactly 220 bytes, a finish event, [usage], [DONE], each its own
 *                       HTTP chunk, all in one write
 *   and "model":"paced" the same events, one every 10 ms (all streams at the same moments), each carrying '@'
 *                       and 16 digits: the monotonic clock in microseconds at the moment it was written
 * The usage event, and "usage":null in the others, are sent when the body says "include_usage":true.
 * A POST to a path that ends in /messages is answered in Anthropic's words: a message of about the same length, or
 * 100 text deltas back to back.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS = 100, EVENT_BYTES = 220, INTERVAL_US = 10000, IN_BYTES = 65536, CHUNK_BYTES = EVENT_BYTES + 6 };

struct text {
    char *bytes;
    size_t length;
};

struct connection {
    int fd;
    int is_writing;             /* EPOLLOUT is asked for */
    int closes;                 /* the request said Connection: close */
    const char *out;            /* what is still to be written: points into an answer or into `chunk` */
    size_t out_length;
    int paced_sent;             /* events sent of a paced stream; -1: no stream under way */
    int with_usage;
    uint64_t due_us;
    struct connection *before, *after; /* neighbours in the queue of paced streams */
    char chunk[CHUNK_BYTES];
    size_t in_length;
    char in[IN_BYTES + 1];
};

static struct text plain_answer, not_found, too_large;
static struct text message_answer, message_burst;
static struct text burst[2], stream_head, stream_tail[2]; /* [1]: with usage */
static int epoll_fd, timer_fd;
/* All streams wait for the next 10 ms, so a queue in order of arrival is already in order of time. */
static struct connection *first_due, *last_due;

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static uint64_t now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

__attribute__((format(printf, 2, 3))) static void append(struct text *text, const char *format, ...)
{
    va_list arguments;
    char *more;
    va_start(arguments, format);
    int length = vasprintf(&more, format, arguments);
    va_end(arguments);
    if (length < 0 || !(text->bytes = realloc(text->bytes, text->length + (size_t)length + 1)))
        die("memory");
    memcpy(text->bytes + text->length, more, (size_t)length + 1);
    text->length += (size_t)length;
    free(more);
}

static void append_chunk(struct text *text, const char *event)
{
    append(text, "%zx\r\n%s\r\n", strlen(event), event);
}

#define HEADERS                                                                                                        \
    "HTTP/1.1 200 OK\r\n"                                                                                              \
    "Date: Tue, 24 Nov 2026 09:00:00 GMT\r\n"                                                                          \
    "Content-Type: %s\r\n"                                                                                             \
    "Connection: keep-alive\r\n"                                                                                       \
    "access-control-expose-headers: X-Request-ID\r\n"                                                                  \
    "openai-organization: bench\r\n"                                                                                   \
    "openai-processing-ms: 312\r\n"                                                                                    \
    "openai-version: 2020-10-01\r\n"                                                                                   \
    "x-ratelimit-limit-requests: 10000\r\n"                                                                            \
    "x-ratelimit-remaining-requests: 9999\r\n"                                                                         \
    "x-request-id: req_5f1c7e0a9d3b4c2e8f60718293a4b5c6\r\n"
#define USAGE                                                                                                          \
    "\"usage\":{\"prompt_tokens\":212,\"completion_tokens\":100,\"total_tokens\":312,"                                 \
    "\"prompt_tokens_details\":{\"cached_tokens\":0,\"audio_tokens\":0},"                                              \
    "\"completion_tokens_details\":{\"reasoning_tokens\":0,\"audio_tokens\":0,"                                        \
    "\"accepted_prediction_tokens\":0,\"rejected_prediction_tokens\":0}}"
#define EVENT_HEAD                                                                                                     \
    "data: {\"id\":\"chatcmpl-bench0001\",\"object\":\"chat.completion.chunk\","                                       \
    "\"created\":1795510800,\"model\":\"gpt-4o-mini\",\"choices\":["

/* One event of EVENT_BYTES: `content` is filled up with blanks. */
static void write_event(char *event, const char *content, int with_usage)
{
    const char *end = with_usage ? ",\"finish_reason\":null}],\"usage\":null}\n\n" : ",\"finish_reason\":null}]}\n\n";
    const char *head = EVENT_HEAD "{\"index\":0,\"delta\":{\"content\":\"";
    int room = EVENT_BYTES - (int)strlen(head) - (int)strlen(end) - 2;
    int written = snprintf(event, EVENT_BYTES + 1, "%s%-*s\"}%s", head, room, content, end);
    if (written != EVENT_BYTES) {
        fprintf(stderr, "upstream: an event is %d bytes, not %d\n", written, EVENT_BYTES);
        exit(1);
    }
}

static void build_answers(void)
{
    struct text body = {0};
    append(&body, "{\"id\":\"chatcmpl-bench0001\",\"object\":\"chat.completion\",\"created\":1795510800,"
                  "\"model\":\"gpt-4o-mini\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"");
    for (int sentence = 0; sentence < 8; sentence++)
        append(&body, "The line carries what it is given, %d. ", sentence);
    append(&body, "\",\"refusal\":null,\"annotations\":[]},\"logprobs\":null,\"finish_reason\":\"stop\"}]," USAGE
                  ",\"service_tier\":\"default\",\"system_fingerprint\":\"fp_0a1b2c3d4e\"}");
    append(&plain_answer, HEADERS "Content-Length: %zu\r\n\r\n%s", "application/json", body.length, body.bytes);
    free(body.bytes);

    append(&not_found, "HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}");
    append(&too_large, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    append(&stream_head, HEADERS "Transfer-Encoding: chunked\r\n\r\n", "text/event-stream; charset=utf-8");
    for (int with_usage = 0; with_usage < 2; with_usage++) {
        struct text *tail = &stream_tail[with_usage], *all = &burst[with_usage];
        append_chunk(tail, with_usage ? EVENT_HEAD "{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":null}\n\n"
                                      : EVENT_HEAD "{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n");
        if (with_usage)
            append_chunk(tail, EVENT_HEAD "]," USAGE "}\n\n");
        append_chunk(tail, "data: [DONE]\n\n");
        append(tail, "0\r\n\r\n");

        append(all, "%s", stream_head.bytes);
        for (int i = 0; i < EVENTS; i++) {
            char word[24], event[EVENT_BYTES + 1];
            snprintf(word, sizeof word, " word%d", i);
            write_event(event, word, with_usage);
            append_chunk(all, event);
        }
        append(all, "%s", tail->bytes);
    }
}

#define MESSAGE                                                                                                        \
    "\"id\":\"msg_bench0001\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"claude-haiku-4-5\","
#define MESSAGE_USAGE                                                                                                  \
    "\"usage\":{\"input_tokens\":212,\"cache_creation_input_tokens\":0,\"cache_read_input_tokens\":0,"                   \
    "\"output_tokens\":%d,\"service_tier\":\"standard\"}"

/* As Anthropic sends them: blanks before the last brace hide how long a text is. */
static void append_event(struct text *text, const char *type, const char *rest)
{
    static int count;
    struct text event = {0};
    append(&event, "event: %s\ndata: {\"type\":\"%s\"%s%*s}\n\n", type, type, rest, count++ * 11 % 16, "");
    append_chunk(text, event.bytes);
    free(event.bytes);
}

static void build_messages(void)
{
    struct text body = {0}, rest = {0};
    append(&body, "{" MESSAGE "\"content\":[{\"type\":\"text\",\"text\":\"");
    for (int sentence = 0; sentence < 15; sentence++)
        append(&body, "The line carries what it is given, %d. ", sentence);
    append(&body, "\"}],\"stop_reason\":\"end_turn\",\"stop_sequence\":null," MESSAGE_USAGE "}", 100);
    append(&message_answer, HEADERS "Content-Length: %zu\r\n\r\n%s", "application/json", body.length, body.bytes);
    free(body.bytes);

    append(&message_burst, HEADERS "Transfer-Encoding: chunked\r\n\r\n", "text/event-stream; charset=utf-8");
    append(&rest, ",\"message\":{" MESSAGE "\"content\":[],\"stop_reason\":null,\"stop_sequence\":null," MESSAGE_USAGE "}", 1);
    append_event(&message_burst, "message_start", rest.bytes);
    append_event(&message_burst, "content_block_start", ",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}");
    append_event(&message_burst, "ping", "");
    for (int i = 0; i < EVENTS; i++) {
        char delta[128];
        snprintf(delta, sizeof delta, ",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\" word%d\"}", i);
        append_event(&message_burst, "content_block_delta", delta);
    }
    append_event(&message_burst, "content_block_stop", ",\"index\":0");
    append_event(&message_burst, "message_delta",
                 ",\"delta\":{\"stop_reason\":\"end_turn\",\"stop_sequence\":null},\"usage\":{\"output_tokens\":100}");
    append_event(&message_burst, "message_stop", "");
    append(&message_burst, "0\r\n\r\n");
    free(rest.bytes);
}

static void leave_queue(struct connection *c)
{
    *(c->before ? &c->before->after : &first_due) = c->after;
    *(c->after ? &c->after->before : &last_due) = c->before;
    c->before = c->after = NULL;
}

static void join_queue(struct connection *c)
{
    c->before = last_due;
    c->after = NULL;
    *(last_due ? &last_due->after : &first_due) = c;
    last_due = c;
}

static void set_timer(void)
{
    struct itimerspec when = {0};
    if (first_due) {
        when.it_value.tv_sec = (time_t)(first_due->due_us / 1000000u);
        when.it_value.tv_nsec = (long)(first_due->due_us % 1000000u) * 1000;
    }
    timerfd_settime(timer_fd, TFD_TIMER_ABSTIME, &when, NULL);
}

static void hang_up(struct connection *c)
{
    if (c->paced_sent >= 0)
        leave_queue(c);
    close(c->fd);
    free(c);
}

static void watch(struct connection *c, int is_writing)
{
    struct epoll_event event = {.events = EPOLLIN | (is_writing ? EPOLLOUT : 0u), .data.ptr = c};
    c->is_writing = is_writing;
    epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &event);
}

/* Writes what is left; 0 when the connection is gone. */
static int flush(struct connection *c)
{
    while (c->out_length) {
        ssize_t sent = send(c->fd, c->out, c->out_length, MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN) {
            hang_up(c);
            return 0;
        }
        if (sent < 0) {
            if (!c->is_writing)
                watch(c, 1);
            return 1;
        }
        c->out += sent;
        c->out_length -= (size_t)sent;
    }
    if (c->is_writing)
        watch(c, 0);
    if (c->closes && c->paced_sent < 0) {
        hang_up(c);
        return 0;
    }
    return 1;
}

static int send_text(struct connection *c, const struct text *text)
{
    c->out = text->bytes;
    c->out_length = text->length;
    return flush(c);
}

static int has(const char *bytes, size_t length, const char *word)
{
    return memmem(bytes, length, word, strlen(word)) != NULL;
}

static int answer(struct connection *c, const char *body, size_t length)
{
    if (strncmp(c->in, "POST ", 5) != 0)
        return send_text(c, &not_found);
    if (has(c->in, strcspn(c->in, "\r"), "/messages "))
        return send_text(c, has(body, length, "\"stream\":true") ? &message_burst : &message_answer);
    if (!has(body, length, "\"stream\":true"))
        return send_text(c, &plain_answer);
    c->with_usage = has(body, length, "\"include_usage\":true");
    if (!has(body, length, "\"model\":\"paced\""))
        return send_text(c, &burst[c->with_usage]);
    c->paced_sent = 0;
    /* On a common grid. Were streams spread over the 10 ms, each event would wake an idle core, which on a virtual
     * machine costs nginx more than the event itself (29 us against 10 in all) and hides what systems differ in;
     * started freely they would drift from one case to the other. */
    c->due_us = (now_us() / INTERVAL_US + 1) * INTERVAL_US;
    join_queue(c);
    if (first_due == c)
        set_timer();
    return send_text(c, &stream_head);
}

/* Answers the requests that are whole, one after the other. */
static void take_requests(struct connection *c)
{
    while (c->in_length && !c->out_length && c->paced_sent < 0) {
        c->in[c->in_length] = 0;
        char *end = memmem(c->in, c->in_length, "\r\n\r\n", 4);
        size_t head = end ? (size_t)(end - c->in) + 4 : 0, body = 0;
        if (end) {
            *end = 0; /* the headers as one string */
            const char *length = strcasestr(c->in, "\r\ncontent-length:");
            body = length ? strtoul(length + 17, NULL, 10) : 0;
            c->closes = strcasestr(c->in, "\r\nconnection: close") != NULL;
            *end = '\r';
        }
        if (!end || c->in_length < head + body) {
            if (head + body > IN_BYTES || c->in_length == IN_BYTES) {
                c->closes = 1;
                c->in_length = 0;
                send_text(c, &too_large);
            }
            return;
        }
        if (!answer(c, c->in + head, body))
            return;
        c->in_length -= head + body;
        memmove(c->in, c->in + head + body, c->in_length);
    }
}

static void read_more(struct connection *c)
{
    char ignored[1];
    int is_full = c->in_length == IN_BYTES;
    ssize_t got = is_full ? recv(c->fd, ignored, 1, MSG_PEEK) : recv(c->fd, c->in + c->in_length, IN_BYTES - c->in_length, 0);
    if (got == 0 || is_full || (got < 0 && errno != EAGAIN))
        hang_up(c);
    else if (got > 0) {
        c->in_length += (size_t)got;
        take_requests(c);
    }
}

static void send_due(void)
{
    uint64_t now = now_us();
    while (first_due && first_due->due_us <= now) {
        struct connection *c = first_due;
        leave_queue(c);
        c->due_us += INTERVAL_US;
        if (c->out_length) { /* a slow reader: this turn is left out */
            join_queue(c);
            continue;
        }
        if (c->paced_sent == EVENTS) {
            c->paced_sent = -1;
            if (send_text(c, &stream_tail[c->with_usage]))
                take_requests(c);
            continue;
        }
        char stamp[24], event[EVENT_BYTES + 1];
        snprintf(stamp, sizeof stamp, "@%016llu", (unsigned long long)now_us());
        write_event(event, stamp, c->with_usage);
        memcpy(c->chunk, "dc\r\n", 4); /* 220 in hex */
        memcpy(c->chunk + 4, event, EVENT_BYTES);
        memcpy(c->chunk + 4 + EVENT_BYTES, "\r\n", 2);
        c->paced_sent++;
        join_queue(c);
        c->out = c->chunk;
        c->out_length = sizeof c->chunk;
        flush(c);
    }
    set_timer();
}

static void accept_all(int listener)
{
    int fd, on = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct connection *c = malloc(sizeof *c);
        if (!c)
            die("memory");
        memset(c, 0, offsetof(struct connection, in));
        c->fd = fd;
        c->paced_sent = -1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event);
    }
}

int main(void)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    build_answers();
    build_messages();
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, size) || listen(listener, 4096) ||
        getsockname(listener, (struct sockaddr *)&address, &size))
        die("listen");
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    struct epoll_event of_listener = {.events = EPOLLIN, .data.ptr = &listener};
    struct epoll_event of_timer = {.events = EPOLLIN, .data.ptr = &timer_fd};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &of_listener);
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, timer_fd, &of_timer);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);

    for (;;) {
        struct epoll_event events[256];
        int is_time = 0, count = epoll_wait(epoll_fd, events, 256, -1);
        for (int i = 0; i < count; i++) {
            struct connection *c = events[i].data.ptr;
            if (events[i].data.ptr == &listener)
                accept_all(listener);
            else if (events[i].data.ptr == &timer_fd)
                is_time = 1;
            else if (events[i].events & (EPOLLERR | EPOLLHUP))
                hang_up(c);
            else if (!(events[i].events & EPOLLOUT) || flush(c)) {
                if (events[i].events & EPOLLIN)
                    read_more(c);
                else
                    take_requests(c);
            }
        }
        /* Last, because it may end a connection another event of this turn still points to. */
        if (is_time) {
            uint64_t ticks;
            if (read(timer_fd, &ticks, sizeof ticks) > 0)
                send_due();
        }
    }
}
