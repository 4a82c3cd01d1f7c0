/* Run a command through rootwrap-daemon: its streams, its end and its signals are this process's.

   usage: rootwrap-exec [OPTION]... [--] COMMAND [ARGUMENT...]

   The same program as rootwrap_daemon/cli/exec, in C and on libc alone; doc/source/reference/protocol.rst has the
   protocol. One loop waits for the daemon, for signals and for the streams that cannot be passed. Until the command has
   started every signal ends this process, and the daemon then ends what it may have started. */
#include "exec.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

/* Seconds that a signal waits for the word that the command has started, once the daemon has greeted. */
static const double STARTING = 0.2;

static const struct { const char *code; int exit; } CODES[] = {
    {"denied", 99}, {"environment_denied", 99}, {"process_gone", 99}, {"executable_not_found", 96}, {"bad_request", 64},
    {"too_large", 64}, {"timeout", 124}, {"output_limit", 75}, {"busy", 75}, {"stopping", 75},
    {"unavailable", NOT_CONFIGURED}, {"outcome_unknown", 75}, {"unauthorized", 77}, {"internal", 70},
};

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
    /* For those that are closed. To read: a command's output that has no place is not to be lost in silence. */
    while ((null = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0 && null <= 2) fcntl(null, F_SETFD, 0);
    if (null < 0) return EXIT_INTERNAL;
    struct options options = {0};
    if ((as_sudo = is_sudo(argv[0]))) read_sudo_arguments(argc, argv, &options);
    else read_arguments(argc, argv, &options);
    if (!options.socket) options.socket = usual_socket();
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
