/* Pass the standard streams to the command, or copy those that cannot be passed. */
#include "exec.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

struct relay relays[3];
int relay_count, copy_failed, nobody_reads;

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

int end_for(int stream) {
    struct stat status;
    if (fstat(stream, &status)) fail(EXIT_INTERNAL, "descriptor %d: %s", stream, strerror(errno));
    int is_unwritable = stream && (fcntl(stream, F_GETFL) & O_ACCMODE) == O_RDONLY;
    if (S_ISCHR(status.st_mode) && status.st_rdev == makedev(1, 3) && !is_unwritable) return -1;
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

void copy(struct relay *relay) {
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

void finish(void) {
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

void write_all(int descriptor, struct word word) {
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
