/* Run rootwrap-exec on any command line against a daemon that says anything, in one process, as often as a fuzzer likes.

   An input is six bytes (how the client is called and how much a command writes, what its streams are, of how many bytes
   at most it reads, a signal, the size of the command line in two), the words of the command line with a line feed between them,
   and what the daemon says.
   Each run ends with an exit code that the client has, says whole printable lines on standard error, and is no success
   before a daemon has greeted. What touches memory that is not the client's the sanitizers see.

   With libFuzzer, or with -DALONE: inputs from standard input, each behind its size (2 bytes); a dot for each that held. */
#include "../../../native/exec/exec.h"

#include <assert.h>
#include <fcntl.h>
#include <getopt.h>
#include <math.h>
#include <poll.h>
#include <pwd.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

enum { AS_SUDO = 1, CHECK_ONLY = 2, HEAD = 6, WORDS = 300, MOST_OPEN = 100 };
/* Bytes that a pipe holds from the start: what the command has written, or has not read. */
static const size_t HELD[] = {0, 1, 5000, 65536};

static jmp_buf over;
static const uint8_t *speech;
static size_t speech_size, piece, held;
static int connections, next_signal, first_free;
static unsigned char *frame;

/* In place of exit(3) and of a signal to itself. */
__attribute__((noreturn)) static void ended(int code) {
    static const uint8_t CODES_OF_ITS_OWN[] = {0, 1, 64, 70, 74, 75, 77, 96, 97, 98, 99, 124};
    assert(connections ? code >= 0 && code <= 255 : code >= 0 && memchr(CODES_OF_ITS_OWN, code, sizeof CODES_OF_ITS_OWN));
    assert(code || !connections || daemon_side.greeted);
    longjmp(over, 1);
}

/* In place of connect(2): the daemon has said all it will ever say. */
static int connected(int client) {
    int pair[2];
    if (++connections > 2 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair)) abort();
    if (write(pair[1], speech, speech_size) != (ssize_t)speech_size) abort();
    shutdown(pair[1], SHUT_WR);
    dup2(pair[0], client);
    close(pair[0]);
    return 0;
}

/* In place of signalfd(2): one signal, or none. */
static int signalled(void) {
    struct signalfd_siginfo info = {.ssi_signo = (uint32_t)next_signal};
    int ends[2];
    if (pipe2(ends, O_NONBLOCK | O_CLOEXEC)) abort();
    if (next_signal && write(ends[1], &info, sizeof info) < 0) abort();
    return ends[0];
}

/* In place of pipe2(2) for a stream: somebody has written to it. */
static int used_pipe(int ends[2], int flags) {
    static char bytes[65536];
    if (pipe2(ends, flags) || write(ends[1], bytes, held) != (ssize_t)held) abort();
    return 0;
}

/* In place of next_frame: the frame alone, that reading behind it is seen. */
static int one_frame(struct reader *reader) {
    if (!next_frame(reader)) return 0;
    size_t size = (size_t)(reader->end - reader->at);
    free(frame);
    if (!(frame = malloc(size + !size))) abort();
    memcpy(frame, reader->at, size);
    *reader = (struct reader){frame, frame + size, reader->broken};
    return 1;
}

/* In place of what say.c writes with. */
static ssize_t said(int descriptor, const char *text, size_t size) {
    assert(descriptor == 2);
    for (size_t i = 0; i < size; i++)
        assert(((unsigned char)text[i] >= ' ' && text[i] != 0x7f) || (text[i] == '\n' && i == size - 1));
    return (ssize_t)size;
}

#define main client_main
#define exit(code) ended(code)
#define kill(pid, number) ended(128 + (number))
#define fork() (-1)
#define connect(descriptor, address, size) connected(descriptor)
#define recv(descriptor, data, size, flags) recv(descriptor, data, piece && piece < (size) ? piece : (size), flags)
#define signalfd(descriptor, mask, flags) signalled()
#define sigprocmask(how, set, before) ((void)0)
#define signal(number, handler) ((void)(handler))
#define setrlimit(...) ((void)0)
#include "../../../native/exec/connection.c"
#define next_frame(reader) one_frame(reader)
#include "../../../native/exec/main.c"
#include "../../../native/exec/msgpack.c"
#include "../../../native/exec/options.c"
#include "../../../native/exec/stand_in.c"
#define pipe2(ends, flags) used_pipe(ends, flags)
#include "../../../native/exec/streams.c"
#undef pipe2
#define take take_option
#include "../../../native/exec/sudo.c"
#define write said
#include "../../../native/exec/say.c"
#undef write
#undef main
#undef exit

/* Make a standard stream: nothing, a file (an output: a full one), a pipe, or a socket (an output: that nobody reads). */
static void give_stream(int stream, int kind) {
    int ends[2] = {-1, -1}, *own = &ends[!!stream], *other = &ends[!stream];
    if (kind == 0) *own = open("/dev/null", O_RDWR | O_CLOEXEC);
    else if (kind == 1 && stream) *own = open("/dev/full", O_WRONLY | O_CLOEXEC);
    else if (kind == 1) *own = *other = memfd_create("input", MFD_CLOEXEC);
    else if (kind == 2 ? pipe2(ends, O_CLOEXEC) : socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends)) abort();
    if (!stream && kind && write(*other, "abc", 3) != 3) abort();
    if (!stream && kind == 1) lseek(*own, 0, SEEK_SET);
    dup2(*own, stream);
    close(*own);
    /* What reads from a stream sees its end; a pipe that is written to has a reader. */
    if (*other != *own && *other >= 0 && !(stream && kind == 2)) close(*other);
}

static void begin_anew(void) {
    free(daemon_side.in.data);
    daemon_side = (struct connection){0};
    for (int i = 0; i < 3; i++) relays[i].begin = relays[i].end = 0;
    relay_count = copy_failed = nobody_reads = as_sudo = connections = optind = 0;
    memset(given, 0, sizeof given);
    group = NULL;
    said_by = PROGRAM ": ";
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const struct sigaction ignored = {.sa_handler = SIG_IGN};
    size_t line = size < HEAD ? size : (size_t)data[4] << 8 | data[5];
    if (size < HEAD + line) return 0;
    /* What the client opens lies behind what is open now. */
    if (!first_free) close(first_free = fcntl(0, F_DUPFD_CLOEXEC, 3)), sigaction(SIGPIPE, &ignored, NULL);
    begin_anew();
    for (int stream = 0; stream < 3; stream++) give_stream(stream, data[1] >> 2 * stream & 3);
    static char *words[WORDS + 3];
    static int count;
    count = 0;
    words[count++] = strdup(data[0] & AS_SUDO ? "sudo" : PROGRAM);
    if (data[0] & CHECK_ONLY) words[count++] = strdup(data[0] & AS_SUDO ? "-l" : "--check");
    const uint8_t *at = data + HEAD, *const end = at + line;
    while (at < end && count < WORDS) {
        const uint8_t *stop = memchr(at, '\n', (size_t)(end - at));
        size_t length = (size_t)((stop ? stop : end) - at);
        words[count++] = strndup((const char *)at, length);
        at += length + 1;
    }
    words[count] = NULL;
    speech = end;
    speech_size = size - HEAD - line;
    held = HELD[data[0] >> 2 & 3];
    piece = data[2];
    next_signal = data[3] % 32;
    /* A copy: getopt_long(3) changes their order. */
    char *before[WORDS + 3];
    memcpy(before, words, sizeof before);
    if (!setjmp(over)) {
        int code = client_main(count, words);
        assert(code == 1 || code == EXIT_UNKNOWN);
    }
    close_range((unsigned)first_free, (unsigned)first_free + MOST_OPEN, 0);
    for (int i = 0; i < count; i++) free(before[i]);
    return 0;
}

#ifdef ALONE
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif

int main(void) {
    static uint8_t all[1 << 24];
    size_t size = fread(all, 1, sizeof all, stdin), at = 0;
    int out = fcntl(1, F_DUPFD_CLOEXEC, 3);
#ifdef __SANITIZE_ADDRESS__
    /* Standard error is the client's. */
    __sanitizer_set_report_fd((void *)(intptr_t)fcntl(2, F_DUPFD_CLOEXEC, 3));
#endif
    while (at + 2 <= size) {
        size_t length = (size_t)all[at] << 8 | all[at + 1];
        /* Memory of its own, that reading behind it is seen. */
        uint8_t *input = malloc(length + !length);
        memcpy(input, all + at + 2, length);
        LLVMFuzzerTestOneInput(input, length);
        free(input);
        if (write(out, ".", 1) != 1) return 1;
        at += 2 + length;
    }
    return 0;
}
#endif
