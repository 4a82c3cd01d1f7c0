/* Speak with the daemon: connect, send whole frames, and give those that arrive one by one. */
#include "exec.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

enum { MAX_FRAME = 1 << 27 };

struct connection daemon_side;

double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

void open_connection(const char *path, double patience) {
    if (daemon_side.socket > 2) close(daemon_side.socket);
    daemon_side.in.size = daemon_side.used = 0;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) fail(NOT_CONFIGURED, "%s: longer than a socket's path may be", path);
    strcpy(address.sun_path, path);
    daemon_side.socket = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    /* connect(2) waits for room in the queue of a daemon that accepts nobody, for as long as it may send. */
    struct timeval most = {(time_t)patience, 0};
    setsockopt(daemon_side.socket, SOL_SOCKET, SO_SNDTIMEO, &most, sizeof most);
    daemon_side.deadline = now() + patience;
    if (daemon_side.socket < 0 || connect(daemon_side.socket, (struct sockaddr *)&address, sizeof address)) {
        if (errno == EAGAIN) fail(NOT_CONFIGURED, "%s: the daemon does not answer", path);
        const char *hint = errno == EACCES ? "is this user in the socket's group"
                           : strcmp(path, DEFAULT_SOCKET) ? "is the daemon running"
                           : "is the daemon running, or ROOTWRAP_DAEMON_SOCKET to be set";
        fail(NOT_CONFIGURED, "%s: %s: %s?", path, strerror(errno), hint);
    }
}

/* 0, with errno, if it was not sent whole. */
static int send_frame(const struct bytes *body, const int *descriptors, size_t count) {
    unsigned char head[4] = {(unsigned char)(body->size >> 24), (unsigned char)(body->size >> 16),
                             (unsigned char)(body->size >> 8), (unsigned char)body->size};
    struct bytes frame = {0};
    put(&frame, head, sizeof head);
    put(&frame, body->data, body->size);
    union { struct cmsghdr header; char room[CMSG_SPACE(3 * sizeof(int))]; } control = {0};
    ssize_t size = 0;
    for (size_t sent = 0; sent < frame.size && size >= 0;) {
        struct iovec part = {frame.data + sent, frame.size - sent};
        struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
        if (count && !sent) {
            message.msg_control = &control;
            message.msg_controllen = CMSG_SPACE(count * sizeof(int));
            struct cmsghdr *header = CMSG_FIRSTHDR(&message);
            header->cmsg_level = SOL_SOCKET;
            header->cmsg_type = SCM_RIGHTS;
            header->cmsg_len = CMSG_LEN(count * sizeof(int));
            memcpy(CMSG_DATA(header), descriptors, count * sizeof(int));
        }
        do size = sendmsg(daemon_side.socket, &message, MSG_NOSIGNAL);
        while (size < 0 && errno == EINTR);
        sent += (size_t)size;
    }
    free(frame.data);
    return size >= 0;
}

void send_number(int type, int64_t number) {
    struct bytes body = {0};
    put_array(&body, number < 0 ? 1 : 2);
    put_number(&body, (uint32_t)type);
    if (number >= 0) put_number(&body, (uint32_t)number);
    send_frame(&body, NULL, 0);
    free(body.data);
}

void send_hello(void) {
    struct bytes body = {0};
    put_array(&body, 4);
    put_number(&body, HELLO);
    put_number(&body, PROTOCOL);
    put_number(&body, MAX_FRAME);
    put_number(&body, 0);
    send_frame(&body, NULL, 0);
    free(body.data);
}

void send_request(const struct options *options, const int *descriptors, size_t count, int slots) {
    struct bytes body = {0};
    /* An older daemon does not know the last field, which is left out without a value. */
    put_array(&body, (options->check ? 3 : 5) + (options->user != NULL));
    put_number(&body, options->check ? CHECK : START);
    put_array(&body, (size_t)options->count);
    for (int i = 0; i < options->count; i++) put_binary(&body, options->argv[i], strlen(options->argv[i]));
    put_array(&body, (size_t)options->variables);
    for (int i = 0; i < options->variables; i++) {
        put_array(&body, 2);
        put_binary(&body, options->env[i].name, options->env[i].size);
        put_binary(&body, options->env[i].value, strlen(options->env[i].value));
    }
    if (!options->check) {
        put_number(&body, (uint32_t)slots);
        double milliseconds = options->timeout * 1000;
        if (options->timeout > 0) put_number(&body, (uint32_t)(milliseconds + 0.999));
        else put_nil(&body);
    }
    if (options->user) put_text(&body, options->user);
    /* unix(7): the kernel passes no descriptor; the daemon has heard nothing, and says nothing. Else it took no
       more, and what it said before is still to be read. */
    if (!send_frame(&body, descriptors, count) && errno == ETOOMANYREFS)
        fail(EXIT_UNKNOWN, "%.200s: too many descriptors of this user are under way", options->argv[0]);
    free(body.data);
}

int receive(void) {
    struct bytes *in = &daemon_side.in;
    unsigned char chunk[CHUNK];
    ssize_t size = recv(daemon_side.socket, chunk, sizeof chunk, MSG_DONTWAIT);
    if (size < 0 && (errno == EAGAIN || errno == EINTR)) return 1;
    if (size <= 0) return 0;
    put(in, chunk, (size_t)size);
    return 1;
}

int next_frame(struct reader *reader) {
    struct bytes *in = &daemon_side.in;
    size_t used = daemon_side.used;
    if (used) memmove(in->data, in->data + used, in->size - used), in->size -= used, daemon_side.used = 0;
    if (in->size < 4) return 0;
    size_t size = (size_t)in->data[0] << 24 | (size_t)in->data[1] << 16 | (size_t)in->data[2] << 8 | in->data[3];
    if (size > MAX_FRAME) fail(EXIT_INTERNAL, "the daemon sent a frame of %zu bytes", size);
    if (in->size < 4 + size) return 0;
    *reader = (struct reader){in->data + 4, in->data + 4 + size, 0};
    daemon_side.used = 4 + size;
    return 1;
}
