/*
 * A client in C, written from doc/source/reference/protocol.rst alone: runs one command and ends as it did.
 *
 *     cc -Wall -Wextra -O2 -o rootwrap-run rootwrap-run.c
 *     ./rootwrap-run SOCKET COMMAND [ARGUMENT...]
 *
 * Exit code: the command's; 128 + N after signal N; 125 where there is none, with the reason on stderr.
 */
#include <err.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { HELLO = 0, RUN = 1, RESULT = 4, FAILURE = 5 };
enum { VERSION = 1, MAX_FRAME = 64 << 20, NO_RESULT = 125 };

/* What is written: frames, one after the other. */
static unsigned char *out;
static size_t out_len, out_cap, frame_start;

static void put(const void *data, size_t len)
{
    if (out_len + len > out_cap) {
        out_cap = 2 * (out_len + len);
        if ((out = realloc(out, out_cap)) == NULL)
            err(NO_RESULT, "memory");
    }
    if (len)
        memcpy(out + out_len, data, len);
    out_len += len;
}

/* A byte of msgpack's that says what follows, and a number of so many bytes, big endian. */
static void put_tag(unsigned char tag, uint32_t number, int bytes)
{
    put(&tag, 1);
    while (bytes--) {
        unsigned char byte = number >> (8 * bytes);
        put(&byte, 1);
    }
}

static void put_array(uint32_t count) { put_tag(0xdd, count, 4); }
static void put_int(uint32_t number) { put_tag(0xce, number, 4); }
static void put_nil(void) { put_tag(0xc0, 0, 0); }

static void put_bin(const char *data)
{
    put_tag(0xc6, strlen(data), 4);
    put(data, strlen(data));
}

static void begin_frame(void)
{
    frame_start = out_len;
    put("\0\0\0\0", 4);
}

static void end_frame(void)
{
    uint32_t len = out_len - frame_start - 4;
    for (int i = 0; i < 4; i++)
        out[frame_start + i] = len >> (8 * (3 - i));
}

/* What is read: one frame at a time. */
static unsigned char *in;
static size_t in_len, in_at;

static void wrong(const char *what) { errx(NO_RESULT, "what answered does not speak the protocol: %s", what); }

static const unsigned char *take(size_t len)
{
    if (len > in_len - in_at)
        wrong("a frame is too short");
    in_at += len;
    return in + in_at - len;
}

static uint64_t take_number(int bytes)
{
    uint64_t number = 0;
    for (const unsigned char *p = take(bytes); bytes--; p++)
        number = number << 8 | *p;
    return number;
}

static uint32_t take_array(void)
{
    unsigned char tag = *take(1);
    if ((tag & 0xf0) == 0x90)
        return tag & 0x0f;
    if (tag != 0xdc && tag != 0xdd)
        wrong("no array");
    return take_number(tag == 0xdc ? 2 : 4);
}

static int64_t take_int(void)
{
    unsigned char tag = *take(1);
    if (tag < 0x80 || tag >= 0xe0)
        return (int8_t)tag;
    if (tag >= 0xcc && tag <= 0xcf)
        return take_number(1 << (tag - 0xcc));
    switch (tag) {
    case 0xd0: return (int8_t)take_number(1);
    case 0xd1: return (int16_t)take_number(2);
    case 0xd2: return (int32_t)take_number(4);
    case 0xd3: return (int64_t)take_number(8);
    }
    wrong("no number");
    return 0;
}

/* A str or a bin. */
static const unsigned char *take_bytes(size_t *len)
{
    unsigned char tag = *take(1);
    if ((tag & 0xe0) == 0xa0)
        *len = tag & 0x1f;
    else if (tag >= 0xd9 && tag <= 0xdb)
        *len = take_number(1 << (tag - 0xd9));
    else if (tag >= 0xc4 && tag <= 0xc6)
        *len = take_number(1 << (tag - 0xc4));
    else
        wrong("neither text nor bytes");
    return take(*len);
}

static void read_all(int fd, unsigned char *data, size_t len)
{
    while (len) {
        ssize_t got = read(fd, data, len);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            errx(NO_RESULT, "the daemon closed the connection: the command may have run");
        data += got, len -= got;
    }
}

static void read_frame(int fd)
{
    unsigned char head[4];
    read_all(fd, head, sizeof head);
    in_len = (size_t)head[0] << 24 | head[1] << 16 | head[2] << 8 | head[3];
    if (in_len > MAX_FRAME)
        wrong("a frame longer than we said");
    free(in);
    if ((in = malloc(in_len + 1)) == NULL)
        err(NO_RESULT, "memory");
    read_all(fd, in, in_len);
    in_at = 0;
}

static void show(FILE *file)
{
    size_t len;
    const unsigned char *data = take_bytes(&len);
    fwrite(data, 1, len, file);
}

int main(int argc, char **argv)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (argc < 3 || strlen(argv[1]) >= sizeof address.sun_path)
        errx(NO_RESULT, "usage: %s SOCKET COMMAND [ARGUMENT...]", argv[0]);
    strcpy(address.sun_path, argv[1]);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address))
        err(NO_RESULT, "%s", argv[1]);

    begin_frame();
    put_array(4), put_int(HELLO), put_int(VERSION), put_int(MAX_FRAME), put_int(0);
    end_frame();
    begin_frame();
    put_array(5), put_int(RUN), put_array(argc - 2);
    for (int i = 2; i < argc; i++)
        put_bin(argv[i]);
    put_array(0), put_nil(), put_nil();
    end_frame();

    for (size_t sent = 0; sent < out_len;) {
        ssize_t done = send(fd, out + sent, out_len - sent, MSG_NOSIGNAL);
        if (done < 0 && errno != EINTR)
            break; /* It takes no more. Why, can be read. */
        sent += done > 0 ? done : 0;
    }
    for (;;) {
        size_t len;
        read_frame(fd);
        take_array();
        switch (take_int()) {
        case HELLO:
            continue;
        case RESULT: {
            take_bytes(&len); /* request_id */
            int64_t code = take_int();
            show(stdout), show(stderr);
            return code < 0 ? 128 - code : code;
        }
        case FAILURE:
            take_bytes(&len); /* request_id */
            fputs("rootwrap-run: ", stderr), show(stderr), fputs(": ", stderr), show(stderr);
            fputs("\n", stderr);
            return NO_RESULT;
        default:
            wrong("an unknown message");
        }
    }
}
