/* Read the command line. */
#include "exec.h"

#include <math.h>

#define SOCKET_VARIABLE "ROOTWRAP_DAEMON_SOCKET"

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

const char *usual_socket(void) {
    const char *named = getenv(SOCKET_VARIABLE);
    return named && *named ? named : DEFAULT_SOCKET;
}

void read_arguments(int argc, char **argv, struct options *options) {
    int i = 1;
    for (; i < argc && argv[i][0] == '-'; i++) {
        char *word = argv[i], *value = NULL;
        if (!strcmp(word, "--")) { i++; break; }
        if (!strcmp(word, "--help")) show_help();
        if (!strcmp(word, "--version")) { puts(PROGRAM " " VERSION); end_of_text(); }
        if (!strcmp(word, "-n")) { options->no_input = 1; continue; }
        if (!strcmp(word, "--check")) { options->check = 1; continue; }
        size_t size = strcspn(word, "=");
        const char *names[] = {"--socket", "--timeout", "--user", "--env"};
        size_t which = 0;
        while (which < COUNT(names) && (strlen(names[which]) != size || strncmp(word, names[which], size))) which++;
        if (which == COUNT(names))
            fail(NOT_CONFIGURED, "unknown option %s; a command that begins with - comes after --", word);
        value = word[size] ? word + size + 1 : i + 1 < argc ? argv[++i] : NULL;
        if (!value || !*value)
            fail(NOT_CONFIGURED, "%s needs a %s", names[which], (const char *[]){"path", "number", "name", "name"}[which]);
        if (which == 0) options->socket = value;
        else if (which == 1) options->timeout = seconds(value);
        else if (which == 2) options->user = value;
        else add_variable(options, value);
    }
    options->argv = argv + i;
    options->count = argc - i;
    if (!options->count) fail(NO_COMMAND, "no command");
}
