/* What rootwrap-exec.c and rootwrap-sudo.c share: the command line as read, and how to say that something failed. */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef VERSION
#define VERSION "0.1.0"
#endif
#define COUNT(table) (sizeof(table) / sizeof *(table))

/* Exit codes: sysexits.h, and those that oslo.rootwrap has. */
enum { EXIT_UNKNOWN = 75, EXIT_COPY = 74, EXIT_INTERNAL = 70, NOT_CONFIGURED = 97, NO_COMMAND = 98, DENIED = 99 };
enum { MAX_ENV = 64 };

struct options {
    const char *socket, *user; /* NULL: the first of the filter's */
    double timeout;            /* seconds; 0: the daemon's own */
    int check, no_input, count, variables;
    char **argv;
    struct { const char *name, *value; size_t size; } env[MAX_ENV];
};

/* What stands before each line on standard error; and true if sudo's options, words and exit code are wanted. */
extern const char *said_by;
extern int as_sudo;

/* Say why on standard error, in one line of printable characters, and end. */
__attribute__((format(printf, 1, 2))) void say(const char *format, ...);
#define fail(code, ...) (say(__VA_ARGS__), exit(as_sudo ? 1 : (code)))
void add_variable(struct options *options, const char *text);
__attribute__((noreturn)) void end_of_text(void);

int is_sudo(const char *program);
void read_sudo_arguments(int count, char **words, struct options *options);
/* Say in sudo's words what the daemon's code means. True if that is all there is to say; below it stand the daemon's own
   words, with the id that its record has. */
int say_as_sudo(const struct options *options, const char *code, const char *message);
/* End as `sudo -l COMMAND` does. */
__attribute__((noreturn)) void list_command(const struct options *options, int allowed);
