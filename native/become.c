/* Become what a filter says, then execute its program: become WORD... -- PROGRAM ARGUMENT...

   Each word is a letter and a value, and is done in the order given (daemon/run/shim.py). Variables have a byte before
   their names, which is taken away at the end. Nothing is allocated. What fails ends the process with 126 and writes
   its letter and errno to the descriptor of S; X is the exec. There is no C library in it: the start of a static one
   takes eight times as long as all that is done here.

     SNUMBER         the descriptor for what failed, which the program does not get
     CPATH           the file of a control group to enter: cgroup.procs
     MDIRECTORY      a bind mount with nosymfollow, noexec, nodev and nosuid, in a mount namespace of its own
     LNUMBER=LIMIT   soft and hard limit of this resource          KOCTAL  umask
     BHEX            what stays in the capability bounding set     N       no_new_privs
     GLIST           supplementary groups, by commas, or none      HNUMBER UNUMBER  group and user: all three of each
     AHEX            permitted, effective, inheritable and ambient capabilities, after U
     I               instead of A: no inheritable and no ambient capabilities  */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mount.h>
#include <sys/syscall.h>

/* A system call: its result, or minus the errno. */
#if defined(__x86_64__)
static long call(long number, long a, long b, long c, long d, long e) {
    register long r10 __asm__("r10") = d, r8 __asm__("r8") = e;
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
                     : "rcx", "r11", "memory");
    return result;
}
__asm__(".globl _start\n_start:\n\txor %ebp, %ebp\n\tmov %rsp, %rdi\n\tand $-16, %rsp\n\tcall begin\n\thlt\n");
#elif defined(__aarch64__)
static long call(long number, long a, long b, long c, long d, long e) {
    register long x8 __asm__("x8") = number, x0 __asm__("x0") = a, x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c, x3 __asm__("x3") = d, x4 __asm__("x4") = e;
    __asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4) : "memory");
    return x0;
}
__asm__(".globl _start\n_start:\n\tmov x29, #0\n\tmov x0, sp\n\tand sp, x0, #-16\n\tbl begin\n\tbrk #1\n");
#else
#error "not for this architecture: there util-linux does it"
#endif
#define CALL(name, a, b, c, d, e) call(SYS_##name, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e))

static long status = -1;

static _Noreturn void fail(char step, long result) {
    int32_t said[2] = {step, (int32_t)-result};
    if (status >= 0)
        CALL(write, status, said, sizeof said, 0, 0);
    for (;;)
        CALL(exit_group, 126, 0, 0, 0, 0);
}

/* The number that `*text` begins with, which then is what follows it; -EINVAL in `*result` if there is none. */
static uint64_t number(const char **text, unsigned base, long *result) {
    uint64_t value = 0;
    const char *begin = *text;
    for (unsigned digit;; ++*text, value = value * base + digit) {
        digit = **text >= 'a' ? **text - 'a' + 10u : **text <= '9' ? **text - 0u - '0' : base;
        if (digit >= base)
            break;
        if (value > (UINT64_MAX - digit) / base)
            *result = -EINVAL;
    }
    *result = *text == begin ? -EINVAL : *result;
    return value;
}

static uint64_t whole(const char *text, unsigned base, long *result) {
    uint64_t value = number(&text, base, result);
    *result = *text ? -EINVAL : *result;
    return value;
}

static long confine(const char *directory) {
    static int unshared;
    /* struct mount_attr: set (MOUNT_ATTR_NOSYMFOLLOW, NOEXEC, NODEV, NOSUID), clear, propagation, userns_fd. Private:
       what somebody mounts below it from here on (fusermount(1)) would lack the flag; what came before gets it. */
    uint64_t attributes[4] = {0x0020000e, 0, MS_PRIVATE, 0};
    long result = unshared ? 0 : CALL(unshare, CLONE_NEWNS, 0, 0, 0, 0);
    /* What is unmounted elsewhere is unmounted here, or its device would be busy for as long as this runs. */
    if (!result && !unshared++)
        result = CALL(mount, NULL, "/", NULL, MS_REC | MS_SLAVE, NULL);
    if (!result)
        result = CALL(mount, directory, directory, NULL, MS_BIND, NULL);
    return result ? result : CALL(mount_setattr, AT_FDCWD, directory, AT_RECURSIVE, attributes, sizeof attributes);
}

static long limit(const char *text) {
    long result = 0;
    uint64_t resource = number(&text, 10, &result);
    if (*text++ != '=')
        return -EINVAL;
    uint64_t most = whole(text, 10, &result), both[2] = {most, most};
    return result ? result : CALL(prlimit64, 0, resource, both, NULL, 0);
}

static long bound(uint64_t kept) {
    long result = 0, set;
    for (int one = 0; !result && one < 64 && (set = CALL(prctl, PR_CAPBSET_READ, one, 0, 0, 0)) >= 0; one++)
        if (set && !(kept >> one & 1))
            result = CALL(prctl, PR_CAPBSET_DROP, one, 0, 0, 0);
    return result;
}

static long set_groups(const char *text) {
    static uint32_t groups[NGROUPS_MAX];
    long count = 0, result = 0;
    while (*text) {
        if (count == NGROUPS_MAX)
            return -EINVAL;
        groups[count++] = (uint32_t)number(&text, 10, &result);
        if (result || (*text && *text++ != ','))
            return -EINVAL;
    }
    return CALL(setgroups, count, groups, 0, 0, 0);
}

/* Keep what is permitted, or have exactly `wanted`; nothing to inherit but that, and so ambient. */
static long set_capabilities(int keep, uint64_t wanted) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2];
    long result = CALL(prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    if (!result)
        result = CALL(capget, &header, data, 0, 0, 0);
    for (int half = 0; half < 2; half++) {
        data[half].inheritable = (uint32_t)(wanted >> 32 * half);
        if (!keep)
            data[half].permitted = data[half].effective = data[half].inheritable;
    }
    if (!result)
        result = CALL(capset, &header, data, 0, 0, 0);
    for (int one = 0; !result && one < 64; one++)
        if (wanted >> one & 1)
            result = CALL(prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, one, 0, 0);
    return result;
}

static long done(const char *word, const char *following) {
    const char *value = word + 1;
    long result = 0;
    uint64_t id = 0;
    if (*word == 'S' || *word == 'H' || *word == 'U' || *word == 'B' || *word == 'A' || *word == 'K')
        id = whole(value, *word == 'K' ? 8 : *word < 'C' ? 16 : 10, &result);
    /* (id_t) -1 would mean no change. */
    if (result || ((*word == 'H' || *word == 'U') && id >= UINT32_MAX))
        return -EINVAL;
    switch (*word) {
    case 'S':
        status = (long)id;
        return CALL(fcntl, status, F_SETFD, FD_CLOEXEC, 0, 0);
    case 'C':
        /* Itself, by 0; nothing can have left it yet. */
        result = CALL(openat, AT_FDCWD, value, O_WRONLY | O_CLOEXEC, 0, 0);
        result = result < 0 ? result : CALL(write, result, "0", 1, 0, 0);
        return result < 0 ? result : 0;
    case 'M': return confine(value);
    case 'L': return limit(value);
    case 'K': return CALL(umask, id, 0, 0, 0, 0) < 0;
    case 'B': return bound(id);
    case 'G': return set_groups(value);
    case 'H': return CALL(setresgid, id, id, id, 0, 0);
    case 'U':
        /* What A takes must be permitted still; exec takes this flag away. */
        if (following && *following == 'A' && (result = CALL(prctl, PR_SET_KEEPCAPS, 1, 0, 0, 0)))
            return result;
        return CALL(setresuid, id, id, id, 0, 0);
    case 'A':
    case 'I':
        return set_capabilities(*word == 'I', id);
    case 'N': return CALL(prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    }
    return -EINVAL;
}

static _Noreturn void become(char **words, char **environment) {
    char **word = words + 1;
    for (long result; *word && **word != '-'; word++)
        if ((result = done(*word, word[1])))
            fail(**word, result);
    if (!*word || !word[1])
        fail('X', -EINVAL);
    for (char **variable = environment; *variable; variable++)
        ++*variable;
    fail('X', CALL(execve, word[1], word + 1, environment, 0, 0));
}

/* The stack of a new process: the number of words, they, NULL, the variables, NULL. */
__attribute__((used)) static _Noreturn void begin(long *stack) {
    become((char **)(stack + 1), (char **)(stack + 2 + *stack));
}
