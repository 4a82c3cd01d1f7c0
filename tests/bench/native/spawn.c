/* Run a program as fast as C can, with no daemon: spawn PROGRAM, or spawn PROGRAM THREADS SECONDS.

   The first way runs it once for each byte of standard input, and answers with the nanoseconds as a line. The
   second runs it from so many threads for so long, and prints how many times in all. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char *program;
static double seconds;
static atomic_long runs;

static long now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000L + t.tv_nsec;
}

/* As subprocess.run with capture_output: two pipes read to their ends, then the exit code. */
static void run(void)
{
    int out[2], err[2], status;
    if (pipe2(out, O_CLOEXEC) || pipe2(err, O_CLOEXEC))
        exit(1);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, out[1], 1);
    posix_spawn_file_actions_adddup2(&actions, err[1], 2);
    char *argv[] = {program, NULL}, *env[] = {"PATH=/usr/bin:/bin", NULL};
    pid_t pid;
    if (posix_spawn(&pid, program, &actions, NULL, argv, env))
        exit(1);
    posix_spawn_file_actions_destroy(&actions);
    close(out[1]);
    close(err[1]);
    struct pollfd both[2] = {{.fd = out[0], .events = POLLIN}, {.fd = err[0], .events = POLLIN}};
    for (int open = 2; open;) {
        char buffer[4096];
        poll(both, 2, -1);
        for (int i = 0; i < 2; i++)
            if (both[i].revents && read(both[i].fd, buffer, sizeof buffer) <= 0) {
                close(both[i].fd);
                both[i].fd = -1;
                open--;
            }
    }
    waitpid(pid, &status, 0);
}

static void *work(void *end)
{
    while (now() < *(long *)end) {
        run();
        runs++;
    }
    return NULL;
}

int main(int argc, char **argv)
{
    if (argc != 2 && argc != 4)
        return 64;
    program = argv[1];
    if (argc == 2) {
        for (char byte; read(0, &byte, 1) == 1;) {
            long start = now();
            run();
            printf("%ld\n", now() - start);
            fflush(stdout);
        }
        return 0;
    }
    int count = atoi(argv[2]);
    seconds = atof(argv[3]);
    long end = now() + (long)(seconds * 1e9);
    pthread_t threads[256];
    if (count < 1 || count > 256)
        return 64;
    for (int i = 0; i < count; i++)
        pthread_create(&threads[i], NULL, work, &end);
    for (int i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    printf("%ld\n", runs);
    return 0;
}
