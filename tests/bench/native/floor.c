/* Speak the protocol and run what is asked, with nothing judged, recorded or limited: floor SOCKET.

   What is left of a request when all that a daemon is for is taken away, behind the same client. It takes a
   Hello, and a Run of an absolute program with short words whose output fits in a pipe; anything else ends it. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <spawn.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum { HELLO = 0, RUN = 1, RESULT = 4, WORDS = 16, OUTPUT = 60000 };

/* Read whatever is there from both until both end. */
static uint32_t collect(int out, int err, unsigned char *output)
{
    struct pollfd both[2] = {{.fd = out, .events = POLLIN}, {.fd = err, .events = POLLIN}};
    uint32_t size = 0;
    for (int open = 2; open;) {
        poll(both, 2, -1);
        for (int i = 0; i < 2; i++) {
            if (!both[i].revents)
                continue;
            ssize_t got = read(both[i].fd, output + size, OUTPUT - size);
            if (got > 0) {
                size += (uint32_t)got;
                continue;
            }
            close(both[i].fd);
            both[i].fd = -1;
            open--;
        }
    }
    return size;
}

static uint32_t run(char **argv, int *code, unsigned char *output)
{
    int out[2], err[2], status;
    if (pipe2(out, O_CLOEXEC) || pipe2(err, O_CLOEXEC))
        abort();
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, out[1], 1);
    posix_spawn_file_actions_adddup2(&actions, err[1], 2);
    char *env[] = {"PATH=/usr/bin:/bin", NULL};
    pid_t pid;
    if (posix_spawn(&pid, argv[0], &actions, NULL, argv, env))
        abort();
    posix_spawn_file_actions_destroy(&actions);
    close(out[1]);
    close(err[1]);
    uint32_t size = collect(out[0], err[0], output);
    waitpid(pid, &status, 0);
    *code = WEXITSTATUS(status);
    return size;
}

static int whole(int sock, unsigned char *buffer, uint32_t size)
{
    for (uint32_t have = 0; have < size;) {
        ssize_t got = recv(sock, buffer + have, size - have, 0);
        if (got <= 0)
            return 0;
        have += (uint32_t)got;
    }
    return 1;
}

static void answer(int sock, const unsigned char *body, uint32_t size)
{
    unsigned char frame[OUTPUT + 256];
    uint32_t length = htonl(size);
    memcpy(frame, &length, 4);
    memcpy(frame + 4, body, size);
    send(sock, frame, size + 4, MSG_NOSIGNAL);
}

static int request(int sock, unsigned char *body, uint32_t size)
{
    if (size < 3 || (body[0] & 0xf0) != 0x90)
        return 0;
    if (body[1] == HELLO) {
        /* [0, 1, 16 MiB, 5] */
        static const unsigned char hello[] = {0x94, HELLO, 1, 0xce, 1, 0, 0, 0, 5};
        answer(sock, hello, sizeof hello);
        return 1;
    }
    int count = body[2] & 0x0f;
    if (body[1] != RUN || (body[2] & 0xf0) != 0x90 || count == WORDS)
        return 0;
    /* Words of bin 8 alone; each ends where the type of what follows stood. */
    char *argv[WORDS + 1] = {0};
    unsigned char *at = body + 3;
    for (int i = 0; i < count; i++) {
        if (at + 2 > body + size || at[0] != 0xc4 || at + 2 + at[1] >= body + size)
            return 0;
        argv[i] = (char *)at + 2;
        unsigned char length = at[1];
        at[0] = 0;
        at += 2 + length;
    }
    *at = 0;
    unsigned char result[OUTPUT + 128], *output = result + 32;
    int code;
    uint32_t length = run(argv, &code, output);
    /* [4, "f", code, output, "", ""] in front of and behind the output. */
    unsigned char head[] = {0x96, RESULT, 0xa1, 'f', (unsigned char)code, 0xc5,
                            (unsigned char)(length >> 8), (unsigned char)length};
    memmove(result + sizeof head, output, length);
    memcpy(result, head, sizeof head);
    memcpy(result + sizeof head + length, "\xc4\0\xa0", 3);
    answer(sock, result, (uint32_t)sizeof head + length + 3);
    return 1;
}

static void *serve(void *argument)
{
    int sock = (int)(intptr_t)argument;
    unsigned char body[65536];
    uint32_t length;
    while (whole(sock, (unsigned char *)&length, 4)) {
        length = ntohl(length);
        if (length > sizeof body || !whole(sock, body, length) || !request(sock, body, length))
            break;
    }
    close(sock);
    return NULL;
}

int main(int argc, char **argv)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (argc != 2 || strlen(argv[1]) >= sizeof address.sun_path)
        return 64;
    strcpy(address.sun_path, argv[1]);
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 128))
        return 1;
    for (;;) {
        int sock = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        pthread_t thread;
        if (sock >= 0 && !pthread_create(&thread, NULL, serve, (void *)(intptr_t)sock))
            pthread_detach(thread);
    }
}
