/* What the files of rootwrap-exec share: constants of the protocol, and what each file gives those behind it. */
#pragma once
#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#ifndef VERSION
#define VERSION "0.1.0"
#endif
#define PROGRAM "rootwrap-exec"
#define DEFAULT_SOCKET "/run/rootwrap-daemon/rootwrap-daemon.sock"
#define COUNT(table) (sizeof(table) / sizeof *(table))

/* Exit codes: sysexits.h, and those that oslo.rootwrap has. */
enum { EXIT_UNKNOWN = 75, EXIT_COPY = 74, EXIT_INTERNAL = 70, NOT_CONFIGURED = 97, NO_COMMAND = 98, DENIED = 99 };
/* Numbers of messages. */
enum { HELLO, RUN, CHECK, CANCEL, RESULT, FAILURE, VERDICT, START, SIGNAL, STATUS, STARTED };
enum { PROTOCOL = 1, CHUNK = 65536, MAX_ENV = 64 };
/* Seconds to connect and to hear the daemon's first word, without --timeout; the same bound as the library has. */
#define PATIENCE 10.0

/* say.c. What stands before each line on standard error; and true if sudo's options, words and exit code are wanted. */
extern const char *said_by;
extern int as_sudo;
/* Say why on standard error, in one line of printable characters, and end. */
__attribute__((format(printf, 1, 2))) void say(const char *format, ...);
#define fail(code, ...) (say(__VA_ARGS__), exit(as_sudo ? 1 : (code)))

/* msgpack.c. Bytes that grow. */
struct bytes {
    unsigned char *data;
    size_t size, room;
};
/* A frame that is read: a cursor that never passes its end; `broken` once something did not fit. */
struct reader {
    const unsigned char *at, *end;
    int broken;
};
struct word {
    const unsigned char *data;
    size_t size;
};
void put(struct bytes *bytes, const void *data, size_t size);
void put_array(struct bytes *bytes, size_t count);
void put_number(struct bytes *bytes, uint32_t value);
void put_text(struct bytes *bytes, const char *text);
void put_nil(struct bytes *bytes);
void put_binary(struct bytes *bytes, const char *data, size_t size);
uint32_t take_array(struct reader *reader);
int64_t take_number(struct reader *reader);
struct word take_word(struct reader *reader);
int take_truth(struct reader *reader);

/* options.c */
struct options {
    const char *socket, *user; /* NULL: the first of the filter's */
    double timeout;            /* seconds; 0: the daemon's own */
    int check, no_input, count, variables;
    char **argv;
    struct { const char *name, *value; size_t size; } env[MAX_ENV];
};
void add_variable(struct options *options, const char *text);
__attribute__((noreturn)) void end_of_text(void);
void read_arguments(int argc, char **argv, struct options *options);
/* Where the daemon listens, as the environment or nobody says. */
const char *usual_socket(void);

/* sudo.c */
int is_sudo(const char *program);
void read_sudo_arguments(int count, char **words, struct options *options);
/* Say in sudo's words what the daemon's code means. True if that is all there is to say; below it stand the daemon's own
   words, with the id that its record has. */
int say_as_sudo(const struct options *options, const char *code, const char *message);
/* End as `sudo -l COMMAND` does. */
__attribute__((noreturn)) void list_command(const struct options *options, int allowed);

/* connection.c */
extern struct connection {
    int socket;
    double deadline; /* to hear Hello */
    double grace;    /* seconds that it gives a command between SIGTERM and SIGKILL */
    int greeted;
    struct bytes in;
    size_t used; /* of it, by the frame that was given last */
} daemon_side;
double now(void); /* seconds */
void open_connection(const char *path, double patience);
void send_hello(void);
/* `slots`: the sum of what Start has descriptors for. */
void send_request(const struct options *options, const int *descriptors, size_t count, int slots);
/* A message with one field; with none for a number below 0. */
void send_number(int type, int64_t number);
/* Read what is there. False at the end of the connection. */
int receive(void);
/* The next whole frame. False if there is none yet. It stays valid until the next call. */
int next_frame(struct reader *reader);

/* streams.c */
extern struct relay {
    int from, to;      /* -1: over. to of an output and from of an input are a standard stream */
    int ours;          /* our end of the pipe */
    int unread;        /* the command's end of the input, kept for what it has not read of a file; else -1 */
    int input;
    unsigned char buffer[CHUNK];
    size_t begin, end; /* what of the buffer is not written yet */
} relays[3];
extern int relay_count;
/* Something could not be copied; nobody reads an output any more. */
extern int copy_failed, nobody_reads;
/* What to pass for a standard stream: itself, a pipe that is copied, -1 for /dev/null. */
int end_for(int stream);
/* Copy once, without waiting. */
void copy(struct relay *relay);
/* The command has ended: copy what it has written until now, and no more; the rest of an input goes back. */
void finish(void);
void write_all(int descriptor, struct word word);

/* stand_in.c. The signals that go to the command; and a process whose signals are read from `wake`. */
extern const int FORWARDED[7];
pid_t start_stand_in(const struct options *options, int *wake);
