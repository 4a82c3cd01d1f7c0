/* Become what a filter says, then execute its program: become WORD... -- PROGRAM ARGUMENT...

   Each word is a letter and a value, and is done in the order given (daemon/run/shim.py). Variables have a byte before
   their names, so that nothing that runs here can mean one; it is taken away at the end. Nothing is allocated. What
   fails ends the process with 126 and writes its letter and errno to the descriptor of S; X is the exec.

     SNUMBER         the descriptor for what failed, which the program does not get
     MDIRECTORY      no link below it is followed: a bind mount with nosymfollow, in a mount namespace of its own
     LNUMBER=LIMIT   soft and hard limit of this resource          KOCTAL  umask
     BHEX            what stays in the capability bounding set     N       no_new_privs
     GLIST           supplementary groups, by commas, or none      HNUMBER UNUMBER  group and user: all three of each
     AHEX            permitted, effective, inheritable and ambient capabilities, after U
     I               instead of A: no inheritable and no ambient capabilities  */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_mount_setattr
#define SYS_mount_setattr 442 /* The same number on every architecture but alpha. */
#endif

struct attributes { /* struct mount_attr of mount_setattr(2), which old headers do not have */
    uint64_t set, clear, propagation, user_namespace;
};
enum { NOSYMFOLLOW = 0x00200000 };

static int status = -1;

static _Noreturn void fail(char step)
{
    struct {
        int32_t step, error;
    } said = {step, errno};
    /* Fewer bytes than PIPE_BUF: all or nothing. */
    if (status >= 0 && write(status, &said, sizeof said) < 0)
        _exit(125);
    _exit(126);
}

/* A whole word as a number of this base, else EINVAL. */
static unsigned long long number(const char *text, int base, char end, const char **rest)
{
    char *last;
    errno = 0;
    unsigned long long value = strtoull(text, &last, base);
    if (errno == 0 && (last == text || *last != end || *text == '-' || *text == '+' || *text == ' '))
        errno = EINVAL;
    if (rest)
        *rest = last + 1;
    return value;
}

static int nosymfollow(const char *directory)
{
    static int unshared;
    struct attributes attributes = {.set = NOSYMFOLLOW};
    /* Private: what somebody mounts below it meanwhile would lack the flag. */
    if (!unshared++ && (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL)))
        return -1;
    if (mount(directory, directory, NULL, MS_BIND, NULL))
        return -1;
    /* The flags that it has stay, those that a user namespace has locked too. */
    return (int)syscall(SYS_mount_setattr, AT_FDCWD, directory, 0, &attributes, sizeof attributes);
}

static int limit(const char *text)
{
    const char *value;
    unsigned long long resource = number(text, 10, '=', &value);
    if (errno)
        return -1;
    rlim_t most = (rlim_t)number(value, 10, '\0', NULL);
    struct rlimit both = {most, most};
    return errno ? -1 : setrlimit((int)resource, &both);
}

static int bound(uint64_t kept)
{
    int set;
    for (int one = 0; one < 64 && (set = prctl(PR_CAPBSET_READ, one, 0, 0, 0)) >= 0; one++)
        if (set && !(kept >> one & 1) && prctl(PR_CAPBSET_DROP, one, 0, 0, 0))
            return -1;
    return 0;
}

static int set_groups(const char *text)
{
    static gid_t groups[NGROUPS_MAX];
    size_t count = 0;
    while (*text) {
        const char *end = text;
        while (*end && *end != ',')
            end++;
        errno = EINVAL;
        if (count < NGROUPS_MAX)
            groups[count++] = (gid_t)number(text, 10, *end, NULL);
        if (errno)
            return -1;
        text = *end ? end + 1 : end;
    }
    return setgroups(count, groups);
}

/* Keep what is permitted, or have exactly `wanted`; nothing to inherit but that, and so ambient. */
static int set_capabilities(int all, uint64_t wanted)
{
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2];
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) || syscall(SYS_capget, &header, data))
        return -1;
    for (int half = 0; half < 2; half++) {
        data[half].inheritable = (uint32_t)(wanted >> 32 * half);
        if (!all)
            data[half].permitted = data[half].effective = data[half].inheritable;
    }
    if (syscall(SYS_capset, &header, data))
        return -1;
    for (int one = 0; one < 64; one++)
        if (wanted >> one & 1 && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, one, 0, 0))
            return -1;
    return 0;
}

static int done(const char *word, char *const *following)
{
    const char *value = word + 1;
    unsigned long long id = 0;
    errno = 0;
    if (*word == 'S' || *word == 'H' || *word == 'U')
        id = number(value, 10, '\0', NULL);
    else if (*word == 'B' || *word == 'A')
        id = number(value, 16, '\0', NULL);
    else if (*word == 'K')
        id = number(value, 8, '\0', NULL);
    /* (id_t) -1 would mean no change. */
    if (errno || ((*word == 'H' || *word == 'U') && id >= UINT32_MAX))
        return -1;
    switch (*word) {
    case 'S':
        status = (int)id;
        return fcntl(status, F_SETFD, FD_CLOEXEC);
    case 'M':
        return nosymfollow(value);
    case 'L':
        return limit(value);
    case 'K':
        umask((mode_t)id);
        return 0;
    case 'B':
        return bound(id);
    case 'G':
        return set_groups(value);
    case 'H':
        return setresgid((gid_t)id, (gid_t)id, (gid_t)id);
    case 'U':
        /* What A takes must be permitted still; exec takes this flag away. */
        if (*following && **following == 'A' && prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0))
            return -1;
        return setresuid((uid_t)id, (uid_t)id, (uid_t)id);
    case 'A':
        return set_capabilities(0, id);
    case 'I':
        return set_capabilities(1, 0);
    case 'N':
        return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    }
    errno = EINVAL;
    return -1;
}

int main(int count, char **words)
{
    int at = 1;
    for (; at < count && words[at][0] != '-'; at++)
        if (done(words[at], words + at + 1))
            fail(words[at][0]);
    errno = EINVAL;
    if (at + 1 >= count)
        fail('X');
    for (char **variable = environ; *variable; variable++)
        ++*variable;
    execv(words[at + 1], words + at + 1);
    fail('X');
}
