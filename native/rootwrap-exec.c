/* Run a command through rootwrap-daemon: its streams, its end and its signals are this process's.

   usage: rootwrap-exec [OPTION]... [--] COMMAND [ARGUMENT...]

   The same program as rootwrap_daemon/cli/exec, in C and on libc alone; doc/source/reference/protocol.rst has the
   protocol. One loop waits for the daemon, for signals and for the streams that cannot be passed. Until the command has
   started every signal ends this process, and the daemon then ends what it may have started. */
#include "rootwrap-exec.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

#define PROGRAM "rootwrap-exec"
#define DEFAULT_SOCKET "/run/rootwrap-daemon/rootwrap-daemon.sock"
#define SOCKET_VARIABLE "ROOTWRAP_DAEMON_SOCKET"

/* Numbers of messages, and the slots of Start. */
enum { HELLO, RUN, CHECK, CANCEL, RESULT, FAILURE, VERDICT, START, SIGNAL, STATUS, STARTED };
enum { PROTOCOL = 1, MAX_FRAME = 1 << 27, CHUNK = 65536 };
/* Seconds to connect and to hear the daemon's first word, without --timeout; the same bound as the library has. */
static const double PATIENCE = 10.0;
/* Seconds that a signal waits for the word that the command has started, once the daemon has greeted. */
static const double STARTING = 0.2;

static const struct { const char *code; int exit; } CODES[] = {
    {"denied", 99}, {"environment_denied", 99}, {"process_gone", 99}, {"executable_not_found", 96}, {"bad_request", 64},
    {"too_large", 64}, {"timeout", 124}, {"output_limit", 75}, {"busy", 75}, {"stopping", 75},
    {"unavailable", NOT_CONFIGURED}, {"outcome_unknown", 75}, {"unauthorized", 77}, {"internal", 70},
};
static const int FORWARDED[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGALRM};

const char *said_by = PROGRAM ": ";
int as_sudo;

void say(const char *format, ...) {
    char line[4096];
    va_list values;
    va_start(values, format);
    int size = vsnprintf(line, sizeof line - 1, format, values);
    va_end(values);
    if (size < 0) return;
    if ((size_t)size > sizeof line - 2) size = (int)sizeof line - 2;
    for (int i = 0; i < size; i++)
        if ((unsigned char)line[i] < ' ' || line[i] == 0x7f) line[i] = '?';
    line[size] = '\n';
    if (write(2, said_by, strlen(said_by)) < 0 || write(2, line, (size_t)size + 1) < 0) return;
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* Bytes that grow. */
struct bytes {
    unsigned char *data;
    size_t size, room;
};

static void put(struct bytes *bytes, const void *data, size_t size) {
    if (bytes->room - bytes->size < size) {
        bytes->room = (bytes->size + size) * 2;
        if (!(bytes->data = realloc(bytes->data, bytes->room))) fail(EXIT_INTERNAL, "no memory");
    }
    if (size) memcpy(bytes->data + bytes->size, data, size);
    bytes->size += size;
}

/* msgpack, as much of it as the messages need. */

static void put_head(struct bytes *bytes, unsigned char kind, uint32_t value, int width) {
    unsigned char head[5] = {kind};
    for (int i = 0; i < width; i++) head[1 + i] = (unsigned char)(value >> 8 * (width - 1 - i));
    put(bytes, head, (size_t)width + 1);
}

static void put_array(struct bytes *bytes, size_t count) { put_head(bytes, 0xdd, (uint32_t)count, 4); }
static void put_number(struct bytes *bytes, uint32_t value) { put_head(bytes, 0xce, value, 4); }
static void put_text(struct bytes *bytes, const char *text) {
    put_head(bytes, 0xdb, (uint32_t)strlen(text), 4);
    put(bytes, text, strlen(text));
}
static void put_nil(struct bytes *bytes) { put_head(bytes, 0xc0, 0, 0); }

static void put_binary(struct bytes *bytes, const char *data, size_t size) {
    put_head(bytes, 0xc6, (uint32_t)size, 4);
    put(bytes, data, size);
}

/* A frame that is read: a cursor that never passes its end; `broken` once something did not fit. */
struct reader {
    const unsigned char *at, *end;
    int broken;
};
struct word {
    const unsigned char *data;
    size_t size;
};

static uint64_t take(struct reader *reader, int width) {
    uint64_t value = 0;
    if (reader->end - reader->at < width) return reader->broken = 1, 0;
    while (width--) value = value << 8 | *reader->at++;
    return value;
}

static uint32_t take_array(struct reader *reader) {
    unsigned kind = (unsigned)take(reader, 1);
    if (kind >= 0x90 && kind <= 0x9f) return kind & 0x0f;
    if (kind == 0xdc) return (uint32_t)take(reader, 2);
    if (kind == 0xdd) return (uint32_t)take(reader, 4);
    return reader->broken = 1, 0;
}

static int64_t take_number(struct reader *reader) {
    unsigned kind = (unsigned)take(reader, 1);
    if (kind <= 0x7f) return kind;
    if (kind >= 0xe0) return (int8_t)kind;
    switch (kind) {
    case 0xcc: return (int64_t)take(reader, 1);
    case 0xcd: return (int64_t)take(reader, 2);
    case 0xce: return (int64_t)take(reader, 4);
    case 0xcf: case 0xd3: return (int64_t)take(reader, 8);
    case 0xd0: return (int8_t)take(reader, 1);
    case 0xd1: return (int16_t)take(reader, 2);
    case 0xd2: return (int32_t)take(reader, 4);
    }
    return reader->broken = 1, 0;
}

static struct word take_word(struct reader *reader) {
    unsigned kind = (unsigned)take(reader, 1);
    uint64_t size;
    if (kind >= 0xa0 && kind <= 0xbf) size = kind & 0x1f;
    else if (kind == 0xc4 || kind == 0xd9) size = take(reader, 1);
    else if (kind == 0xc5 || kind == 0xda) size = take(reader, 2);
    else if (kind == 0xc6 || kind == 0xdb) size = take(reader, 4);
    else size = reader->broken = 1;
    if (reader->broken || size > (uint64_t)(reader->end - reader->at)) return reader->broken = 1, (struct word){0};
    struct word word = {reader->at, (size_t)size};
    reader->at += size;
    return word;
}

static int take_truth(struct reader *reader) {
    unsigned kind = (unsigned)take(reader, 1);
    if (kind != 0xc2 && kind != 0xc3) reader->broken = 1;
    return kind == 0xc3;
}

/* The command line. */

void end_of_text(void) {
    if (fflush(stdout)) fail(EXIT_COPY, "standard output: %s", strerror(errno));
    exit(0);
}

static void show_help(void) {
    puts("usage: " PROGRAM " [OPTION]... [--] COMMAND [ARGUMENT...]\n\n"
         "Run COMMAND through rootwrap-daemon, as its filters allow it to this user.\n\n"
         "  --socket PATH        the daemon's socket; default: $" SOCKET_VARIABLE " or\n"
         "                       " DEFAULT_SOCKET "\n"
         "  --user NAME          run it as this user, of those that its filter has; default: the first\n"
         "  --timeout SECONDS    end the command after this time; a filter may give it less\n"
         "  --env NAME[=VALUE]   set a variable that the filter allows; without VALUE, to this process's own,\n"
         "                       so that no command line shows it; may be repeated\n"
         "  --check              ask whether the command is allowed, and run nothing\n"
         "  -n                   give it no input, and leave this process's alone\n"
         "  --help, --version\n\n"
         "exit status: the command's own, or 128 + N after signal N; 99 denied, 98 no command, 97 no daemon or a wrong\n"
         "option, 96 no such program, 124 timeout, 77 this user may not ask, 75 try again or outcome unknown,\n"
         "74 output could not be written, 64 not a command that could run, 70 a fault");
    end_of_text();
}

void add_variable(struct options *options, const char *text) {
    const char *equals = strchr(text, '=');
    size_t size = equals ? (size_t)(equals - text) : strlen(text);
    const char *value = equals ? equals + 1 : getenv(text);
    if (!size) fail(NOT_CONFIGURED, "--env needs a name");
    if (!value) fail(NOT_CONFIGURED, "--env %s: there is no such variable here: write %s=VALUE", text, text);
    if (options->variables == MAX_ENV) fail(NOT_CONFIGURED, "--env: more than %d variables", MAX_ENV);
    options->env[options->variables].name = text;
    options->env[options->variables].size = size;
    options->env[options->variables++].value = value;
}

static double seconds(const char *text) {
    char *end;
    double value = strtod(text, &end);
    if (!*text || *end || !isfinite(value) || value <= 0 || value > 7 * 24 * 3600)
        fail(NOT_CONFIGURED, "--timeout %s: not a number of seconds from 0.001 to 604800", text);
    return value;
}

static struct options read_arguments(int argc, char **argv) {
    struct options options = {0};
    const char *named = getenv(SOCKET_VARIABLE);
    if ((as_sudo = is_sudo(argv[0]))) {
        read_sudo_arguments(argc, argv, &options);
        options.socket = named && *named ? named : DEFAULT_SOCKET;
        return options;
    }
    int i = 1;
    for (; i < argc && argv[i][0] == '-'; i++) {
        char *word = argv[i], *value = NULL;
        if (!strcmp(word, "--")) { i++; break; }
        if (!strcmp(word, "--help")) show_help();
        if (!strcmp(word, "--version")) { puts(PROGRAM " " VERSION); end_of_text(); }
        if (!strcmp(word, "-n")) { options.no_input = 1; continue; }
        if (!strcmp(word, "--check")) { options.check = 1; continue; }
        size_t size = strcspn(word, "=");
        const char *names[] = {"--socket", "--timeout", "--user", "--env"};
        size_t which = 0;
        while (which < COUNT(names) && (strlen(names[which]) != size || strncmp(word, names[which], size))) which++;
        if (which == COUNT(names))
            fail(NOT_CONFIGURED, "unknown option %s; a command that begins with - comes after --", word);
        value = word[size] ? word + size + 1 : i + 1 < argc ? argv[++i] : NULL;
        if (!value || !*value)
            fail(NOT_CONFIGURED, "%s needs a %s", names[which], (const char *[]){"path", "number", "name", "name"}[which]);
        if (which == 0) options.socket = value;
        else if (which == 1) options.timeout = seconds(value);
        else if (which == 2) options.user = value;
        else add_variable(&options, value);
    }
    options.argv = argv + i;
    options.count = argc - i;
    if (!options.count) fail(NO_COMMAND, "no command");
    if (!options.socket) options.socket = named && *named ? named : DEFAULT_SOCKET;
    return options;
}

/* The connection. */

static struct {
    int socket;
    double deadline; /* to hear Hello */
    double grace;    /* seconds that it gives a command between SIGTERM and SIGKILL */
    int greeted;
    struct bytes in;
    size_t used; /* of it, by the frame that was given last */
} daemon_side;

static void open_connection(const char *path, double patience) {
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

static void send_frame(const struct bytes *body, const int *descriptors, size_t count) {
    unsigned char head[4] = {(unsigned char)(body->size >> 24), (unsigned char)(body->size >> 16),
                             (unsigned char)(body->size >> 8), (unsigned char)body->size};
    struct bytes frame = {0};
    put(&frame, head, sizeof head);
    put(&frame, body->data, body->size);
    union { struct cmsghdr header; char room[CMSG_SPACE(3 * sizeof(int))]; } control = {0};
    for (size_t sent = 0; sent < frame.size;) {
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
        ssize_t size = sendmsg(daemon_side.socket, &message, MSG_NOSIGNAL);
        if (size < 0 && errno == EINTR) continue;
        /* What the daemon said before it closed is still to be read. */
        if (size < 0) break;
        sent += (size_t)size;
    }
    free(frame.data);
}

static void send_number(int type, int64_t number) {
    struct bytes body = {0};
    put_array(&body, number < 0 ? 1 : 2);
    put_number(&body, (uint32_t)type);
    if (number >= 0) put_number(&body, (uint32_t)number);
    send_frame(&body, NULL, 0);
    free(body.data);
}

static void send_hello(void) {
    struct bytes body = {0};
    put_array(&body, 4);
    put_number(&body, HELLO);
    put_number(&body, PROTOCOL);
    put_number(&body, MAX_FRAME);
    put_number(&body, 0);
    send_frame(&body, NULL, 0);
    free(body.data);
}

static void send_request(const struct options *options, const int *descriptors, size_t count, int slots) {
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
    send_frame(&body, descriptors, count);
    free(body.data);
}

/* Read what is there. False at the end of the connection. */
static int receive(void) {
    struct bytes *in = &daemon_side.in;
    unsigned char chunk[CHUNK];
    ssize_t size = recv(daemon_side.socket, chunk, sizeof chunk, MSG_DONTWAIT);
    if (size < 0 && (errno == EAGAIN || errno == EINTR)) return 1;
    if (size <= 0) return 0;
    put(in, chunk, (size_t)size);
    return 1;
}

/* The next whole frame. False if there is none yet. It stays valid until the next call. */
static int next_frame(struct reader *reader) {
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

/* The streams. */

static struct relay {
    int from, to;      /* -1: over. to of an output and from of an input are a standard stream */
    int ours;          /* our end of the pipe */
    int unread;        /* the command's end of the input, kept for what it has not read of a file; else -1 */
    int input;
    unsigned char buffer[CHUNK];
    size_t begin, end; /* what of the buffer is not written yet */
} relays[3];
static int relay_count;
/* Something could not be copied; nobody reads an output any more. */
static int copy_failed, nobody_reads;

static void stop_relay(struct relay *relay) {
    if (relay->ours >= 0) close(relay->ours);
    relay->from = relay->to = relay->ours = -1;
    relay->begin = relay->end = 0;
}

/* False for the number that stands for all users whom a user namespace does not know (user_namespaces(7)): the daemon
   sees whose pipe it is, and takes this user's alone. */
static int is_one_user(uid_t uid) {
    unsigned overflow = 65534, inside = 1, outside = 1, count = 0;
    FILE *file = fopen("/proc/sys/kernel/overflowuid", "re");
    if (!file || fscanf(file, "%u", &overflow) != 1) overflow = 65534;
    if (file) fclose(file);
    if (uid != overflow) return 1;
    file = fopen("/proc/self/uid_map", "re");
    int fields = file ? fscanf(file, "%u %u %u", &inside, &outside, &count) : 0;
    if (file) fclose(file);
    return fields == 3 && !inside && !outside && count == UINT32_MAX;
}

static int is_passable(int stream, const struct stat *status) {
    char name[32], target[32] = {0};
    snprintf(name, sizeof name, "/proc/self/fd/%d", stream);
    int flags = fcntl(stream, F_GETFL);
    return S_ISFIFO(status->st_mode) && status->st_uid == geteuid() && flags >= 0 &&
           (flags & O_ACCMODE) == (stream ? O_WRONLY : O_RDONLY) && readlink(name, target, sizeof target - 1) > 0 &&
           !strncmp(target, "pipe:[", 6) && is_one_user(status->st_uid);
}

/* What to pass for a standard stream: itself, a pipe that is copied, -1 for /dev/null. */
static int end_for(int stream) {
    struct stat status;
    if (fstat(stream, &status)) fail(EXIT_INTERNAL, "descriptor %d: %s", stream, strerror(errno));
    if (S_ISCHR(status.st_mode) && status.st_rdev == makedev(1, 3)) return -1;
    if (is_passable(stream, &status)) return stream;
    int ends[2];
    if (pipe2(ends, O_CLOEXEC)) fail(EXIT_INTERNAL, "pipe: %s", strerror(errno));
    struct relay *relay = &relays[relay_count++];
    int ours = stream ? ends[0] : ends[1];
    relay->input = !stream;
    relay->unread = !stream && (S_ISREG(status.st_mode) || S_ISBLK(status.st_mode)) ? fcntl(ends[0], F_DUPFD_CLOEXEC, 3) : -1;
    relay->ours = ours;
    relay->from = stream ? ours : 0;
    relay->to = stream ? stream : ours;
    fcntl(ours, F_SETFL, O_NONBLOCK);
    return stream ? ends[1] : ends[0];
}

/* Give back to a file what was read from it and not taken by the command. */
static void give_back(struct relay *relay) {
    int unread = 0;
    if (relay->unread < 0 || ioctl(relay->unread, FIONREAD, &unread)) return;
    off_t rest = (off_t)unread + (off_t)(relay->end - relay->begin);
    if (rest && lseek(0, -rest, SEEK_CUR) < 0) copy_failed = 1, say("standard input: %s", strerror(errno));
}

/* Copy once, without waiting. `drain`: the command has ended, so only what is in the pipe now. */
static void copy(struct relay *relay) {
    if (relay->begin == relay->end && relay->from >= 0) {
        ssize_t size = read(relay->from, relay->buffer, CHUNK);
        if (size < 0 && (errno == EAGAIN || errno == EINTR)) return;
        if (size < 0) copy_failed = 1, say("standard %s: %s", relay->input ? "input" : "output", strerror(errno));
        if (size <= 0) {
            stop_relay(relay);
            return;
        }
        relay->begin = 0;
        relay->end = (size_t)size;
    }
    size_t size = relay->end - relay->begin;
    /* So much a pipe or terminal that has room takes without blocking, whoever else has it open. */
    struct stat status;
    if (!relay->input && size > 4096 && (fstat(relay->to, &status) || !S_ISREG(status.st_mode))) size = 4096;
    ssize_t written = write(relay->to, relay->buffer + relay->begin, size);
    if (written > 0) relay->begin += (size_t)written;
    else if (written < 0 && errno != EAGAIN && errno != EINTR) {
        if (!relay->input && errno != EPIPE) {
            say("standard %s: %s", relay->to == 1 ? "output" : "error", strerror(errno));
            copy_failed = 1;
        } else if (!relay->input) nobody_reads = 1;
        /* The command is to notice as well. */
        stop_relay(relay);
    }
}

/* The process below that looks like the command: neutron's AsyncProcess looks for its command among the children of
   its root helper, and signals that. It waits, passes on the signals that can be caught, and ends with its parent. */

static volatile sig_atomic_t stand_in_writer;

static void pass_on(int number) {
    unsigned char byte = (unsigned char)number;
    int saved = errno;
    if (write(stand_in_writer, &byte, 1) < 0) (void)0;
    errno = saved;
}

static pid_t start_stand_in(const struct options *options, int *wake) {
    int numbers[2], life[2];
    if (pipe2(numbers, O_CLOEXEC | O_NONBLOCK) || pipe2(life, O_CLOEXEC)) return -1;
    /* Before the fork: no moment in which it could be told what it is not ready for. */
    pid_t pid = fork();
    if (pid) {
        close(numbers[1]);
        close(life[0]);
        *wake = numbers[0];
        return pid;
    }
    /* What a terminal sends to its foreground, the parent gets and passes on: once is enough. */
    setsid();
    stand_in_writer = numbers[1];
    for (size_t i = 0; i < COUNT(FORWARDED); i++) signal(FORWARDED[i], pass_on);
    signal(SIGCHLD, SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    /* `ip netns exec NAME` becomes its command by execve(2). The words before become one, as of a script. */
    char **words = options->argv;
    const char *base = strrchr(words[0], '/');
    if (options->count > 4 && !strcmp(base ? base + 1 : words[0], "ip") && !strcmp(words[1], "netns") &&
        !strcmp(words[2], "exec"))
        words += 4;
    for (char *sign = program_invocation_name; sign < words[0] - 1; sign++)
        if (!*sign) *sign = ' ';
    sigprocmask(SIG_SETMASK, &none, NULL);
    /* Whoever waits for the end of a pipe must not wait for this process. */
    for (int descriptor = 0, most = (int)sysconf(_SC_OPEN_MAX); descriptor < (most > 1024 ? 1024 : most); descriptor++)
        if (descriptor != life[0] && descriptor != numbers[1]) close(descriptor);
    char byte;
    while (read(life[0], &byte, 1) < 0 && errno == EINTR) continue;
    _exit(0);
}

/* The end. */

static void end_as(int code) {
    if (code < 0) {
        int number = -code;
        /* The core, if any, is the command's. */
        setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
        sigset_t one;
        sigemptyset(&one);
        sigaddset(&one, number);
        signal(number, SIG_DFL);
        sigprocmask(SIG_UNBLOCK, &one, NULL);
        kill(getpid(), number);
        code = 128 + number;
    }
    exit(code);
}

/* The command has ended: copy what it has written until now, and no more; the rest of an input goes back. */
static void finish(void) {
    for (int i = 0; i < relay_count; i++) {
        struct relay *relay = &relays[i];
        int left = 0;
        if (relay->input) {
            give_back(relay);
            continue;
        }
        if (relay->ours >= 0) ioctl(relay->ours, FIONREAD, &left);
        /* Here it may wait: there is nothing else to do. */
        while (relay->ours >= 0 && (left > 0 || relay->begin < relay->end)) {
            if (relay->begin == relay->end) {
                ssize_t size = read(relay->from, relay->buffer, left < CHUNK ? (size_t)left : CHUNK);
                if (size <= 0) break;
                left -= (int)size;
                relay->begin = 0;
                relay->end = (size_t)size;
            }
            struct pollfd one = {relay->to, POLLOUT, 0};
            if (poll(&one, 1, -1) > 0) copy(relay);
        }
    }
}

static void write_all(int descriptor, struct word word) {
    while (word.size) {
        ssize_t size = write(descriptor, word.data, word.size);
        if (size < 0 && errno == EINTR) continue;
        if (size < 0 && errno == EAGAIN) {
            struct pollfd one = {descriptor, POLLOUT, 0};
            poll(&one, 1, -1);
            continue;
        }
        if (size < 0) {
            if (errno == EPIPE) nobody_reads = 1;
            else copy_failed = 1, say("standard %s: %s", descriptor == 1 ? "output" : "error", strerror(errno));
            return;
        }
        word.data += size;
        word.size -= (size_t)size;
    }
}

static void end_with(int code) {
    finish();
    /* As the command would have ended itself, had it been still there. */
    if (!code) code = copy_failed ? EXIT_COPY : nobody_reads ? -SIGPIPE : 0;
    end_as(code);
}

static void end_by_failure(struct reader *reader, const struct options *options) {
    struct word id = take_word(reader), code = take_word(reader), message = take_word(reader);
    if (reader->broken) fail(EXIT_INTERNAL, "the daemon's answer cannot be read");
    int status = EXIT_INTERNAL;
    for (size_t i = 0; i < COUNT(CODES); i++)
        if (strlen(CODES[i].code) == code.size && !memcmp(CODES[i].code, code.data, code.size)) status = CODES[i].exit;
    char its_code[64], its_message[4096];
    snprintf(its_code, sizeof its_code, "%.*s", (int)code.size, code.data);
    snprintf(its_message, sizeof its_message, "%.*s", (int)message.size, message.data);
    if (as_sudo && say_as_sudo(options, its_code, its_message)) finish(), exit(1);
    say("%.200s: %.*s%s%.*s%s", options->argv[0], (int)message.size, message.data, id.size ? " (request " : "", (int)id.size,
        id.data, id.size ? ")" : "");
    finish();
    exit(as_sudo ? 1 : status);
}

/* Act on one frame of the daemon. */
static void heard(struct reader *reader, const struct options *options, uint64_t *signals, int *started) {
    uint32_t count = take_array(reader);
    int64_t type = take_number(reader);
    if (type == FAILURE && count == 4) end_by_failure(reader, options);
    if (!daemon_side.greeted) {
        if (type != HELLO || take_number(reader) != PROTOCOL || reader->broken)
            fail(NOT_CONFIGURED, "%s: not a daemon that speaks this protocol", options->socket);
        take_number(reader);
        daemon_side.grace = (double)take_number(reader) / 1000;
        daemon_side.greeted = !reader->broken;
        if (reader->broken) fail(EXIT_INTERNAL, "the daemon's answer cannot be read");
        return;
    }
    struct word id = take_word(reader);
    if (type == STARTED && count == 4 && !*started) {
        take_number(reader);
        *signals = (uint64_t)take_number(reader);
        *started = 1;
    } else if (type == RESULT && count == 6) {
        int64_t code = take_number(reader);
        struct word out = take_word(reader), error = take_word(reader), cause = take_word(reader);
        if (reader->broken || code < -64 || code > 255) fail(EXIT_INTERNAL, "the daemon's answer cannot be read");
        /* What the daemon did itself has its output here. */
        write_all(1, out);
        write_all(2, error);
        if (cause.size == 8 && !memcmp(cause.data, "stopping", 8))
            say("%.200s: ended, because the daemon is stopping", options->argv[0]);
        end_with((int)code);
    } else if (type == VERDICT && count == 4 && options->check) {
        int allowed = take_truth(reader);
        if (reader->broken) fail(EXIT_INTERNAL, "the daemon's answer cannot be read");
        if (as_sudo) list_command(options, allowed);
        if (!allowed) say("%.200s: no filter allows this command (request %.*s)", options->argv[0], (int)id.size, id.data);
        exit(allowed ? 0 : DENIED);
    } else
        reader->broken = 1;
    if (reader->broken) fail(EXIT_INTERNAL, "the daemon's answer cannot be read");
}

/* A signal came for the command. What ends a command may be sent even where its filter does not give it. */
static void forward(int number, uint64_t signals) {
    if (number >= 1 && number <= 64 && signals >> (number - 1) & 1) send_number(SIGNAL, number);
    else if (number == SIGHUP || number == SIGINT || number == SIGQUIT || number == SIGTERM || number == SIGKILL)
        send_number(CANCEL, -1);
}

/* The signals that are the command's from now on, on a descriptor. Ignored already (nohup(1)): as it was. */
static int take_signals(void) {
    sigset_t taken;
    sigemptyset(&taken);
    sigaddset(&taken, SIGCHLD);
    for (size_t i = 0; i < COUNT(FORWARDED); i++) {
        struct sigaction before;
        sigaction(FORWARDED[i], NULL, &before);
        if (before.sa_handler != SIG_IGN) sigaddset(&taken, FORWARDED[i]);
    }
    sigprocmask(SIG_BLOCK, &taken, NULL);
    return signalfd(-1, &taken, SFD_CLOEXEC | SFD_NONBLOCK);
}

int main(int argc, char **argv) {
    int null;
    while ((null = open("/dev/null", O_RDWR | O_CLOEXEC)) >= 0 && null <= 2) fcntl(null, F_SETFD, 0);
    if (null < 0) return EXIT_INTERNAL;
    struct options options = read_arguments(argc, argv);
    signal(SIGPIPE, SIG_IGN);
    int passed[3], slots = 0, signal_source = -1, wake = -1, started = 0, silent = 0, pending = 0, again = 0;
    double give_up = 0;
    size_t count = 0;
    pid_t stand_in = -1;
    uint64_t signals = 0;
    for (int stream = 0; stream < 3 && !options.check; stream++) {
        int end = stream || !options.no_input ? end_for(stream) : -1;
        if (end >= 0) passed[count++] = end, slots |= 1 << stream;
    }
    const double asked = options.timeout > 0 && options.timeout < 1 ? 1 : options.timeout;
    const double connecting = asked > 0 ? asked : PATIENCE;
    const double began = now();
    open_connection(options.socket, connecting);
    send_hello();
    for (;;) {
        struct reader reader;
        while (next_frame(&reader)) {
            int before = started, greeted = daemon_side.greeted;
            heard(&reader, &options, &signals, &started);
            if (daemon_side.greeted && !greeted) {
                /* Not before: of a daemon that does not answer it is known that it runs nothing, and the streams do not
                   lie in its queue. A signal that comes from here on may be for the command. */
                if (!options.check) signal_source = take_signals();
                send_request(&options, passed, count, slots);
            }
            if (started && !before) {
                stand_in = start_stand_in(&options, &wake);
                /* The command has its ends: let go of ours, that whoever is at the other end sees its end, too.
                   Not of standard error: there may be something to say yet. */
                for (size_t i = 0; i < count; i++)
                    if (passed[i] > 2) close(passed[i]);
                    else if (passed[i] < 2) dup2(null, passed[i]);
                if (pending) forward(pending, signals), pending = 0;
            }
        }
        if (silent && !daemon_side.greeted && !again) {
            again = 1, silent = 0;
            open_connection(options.socket, connecting);
            send_hello();
            continue;
        }
        if (silent && (!daemon_side.greeted || options.check))
            fail(NOT_CONFIGURED, "%.200s: the daemon closed the connection: nothing ran", options.argv[0]);
        if (silent) {
            say("%.200s: the daemon closed the connection: the command may have run", options.argv[0]);
            finish();
            return as_sudo ? 1 : EXIT_UNKNOWN;
        }
        struct pollfd sources[3 + 3] = {{daemon_side.socket, POLLIN, 0}, {signal_source, POLLIN, 0}, {wake, POLLIN, 0}};
        for (int i = 0; i < 3; i++) {
            struct relay *relay = &relays[i];
            int full = relay->begin < relay->end;
            sources[3 + i] = (struct pollfd){-1, 0, 0};
            if (i >= relay_count || relay->ours < 0) continue;
            /* An input waits for the command to take it; one that is over by then sees the pipe's end (POLLERR). */
            if (full) sources[3 + i] = (struct pollfd){relay->to, POLLOUT, 0};
            else if (started) sources[3 + i] = (struct pollfd){relay->from, POLLIN, 0};
        }
        int patience = -1;
        if (!daemon_side.greeted) {
            double left = daemon_side.deadline - now();
            if (left <= 0) fail(NOT_CONFIGURED, "%.200s: the daemon did not answer in time: nothing ran", options.argv[0]);
            patience = (int)(left * 1000) + 1;
        } else if (options.timeout > 0) {
            double left = began + options.timeout + daemon_side.grace + PATIENCE - now();
            if (left <= 0) {
                say("%.200s: the daemon did not answer in time: the command may have run", options.argv[0]);
                finish();
                return as_sudo ? 1 : EXIT_UNKNOWN;
            }
            patience = left > 3600 ? 3600 * 1000 : (int)(left * 1000) + 1;
        }
        if (pending) {
            double left = give_up - now();
            if (left <= 0) end_as(-pending);
            patience = (int)(left * 1000) + 1;
        }
        if (poll(sources, COUNT(sources), patience) < 0) {
            if (errno == EINTR) continue;
            fail(EXIT_INTERNAL, "poll: %s", strerror(errno));
        }
        if (sources[1].revents) {
            struct signalfd_siginfo info;
            while (read(signal_source, &info, sizeof info) == sizeof info) {
                siginfo_t end = {0};
                if (info.ssi_signo != SIGCHLD && !started) {
                    /* It may run by now: then the signal is for the command. */
                    if (!pending) give_up = now() + STARTING;
                    pending = (int)info.ssi_signo;
                } else if (info.ssi_signo != SIGCHLD) forward((int)info.ssi_signo, signals);
                /* Whoever kills it with what cannot be caught means the command. */
                else if (stand_in > 0 && !waitid(P_PID, (id_t)stand_in, &end, WEXITED | WNOHANG) && end.si_pid &&
                         (end.si_code == CLD_KILLED || end.si_code == CLD_DUMPED))
                    forward(end.si_status, signals);
            }
        }
        if (sources[2].revents) {
            unsigned char number;
            ssize_t size = 0;
            while ((size = read(wake, &number, 1)) == 1) forward(number, signals);
            if (!size) close(wake), wake = -1;
        }
        for (int i = 0; i < relay_count; i++)
            if (sources[3 + i].revents) copy(&relays[i]);
        if (sources[0].revents && !receive()) silent = 1;
    }
}
