/* Have a process below this one that looks like the command: neutron's AsyncProcess looks for its command among the
   children of its root helper, and signals that. It waits, passes on the signals that can be caught, and ends with its
   parent. */
#include "exec.h"

#include <fcntl.h>
#include <signal.h>

const int FORWARDED[7] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGALRM};

static volatile sig_atomic_t stand_in_writer;

static void pass_on(int number) {
    unsigned char byte = (unsigned char)number;
    int saved = errno;
    if (write(stand_in_writer, &byte, 1) < 0) (void)0;
    errno = saved;
}

pid_t start_stand_in(const struct options *options, int *wake) {
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
