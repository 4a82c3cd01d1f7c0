/* Take a command line of sudo: rootwrap-exec called `sudo` or `rootwrap-sudo`. What sudo does and the daemon does not is
   refused in sudo's words, with its exit code. The same as rootwrap_daemon/cli/exec/sudo.py. */
#include "exec.h"

#include <getopt.h>
#include <pwd.h>

static const char USAGE[] =
    "usage: sudo [-ABHkNnS] [-p prompt] [-u user] [--preserve-env=list] [VAR=value] [--] command [arg ...]\n"
    "usage: sudo -l [-u user] command [arg ...]\n"
    "usage: sudo -K | -k | -V | -v | -h\n";
/* Options that change nothing here: there is no password, and HOME is always the user's. */
static const char NOTHING[] = "ABHkKNnpSvl";
static const struct option LONG[] = {
    {"askpass", 0, 0, 'A'}, {"background", 0, 0, 'b'}, {"bell", 0, 0, 'B'}, {"chdir", 1, 0, 'D'}, {"chroot", 1, 0, 'R'},
    {"close-from", 1, 0, 'C'}, {"command-timeout", 1, 0, 'T'}, {"edit", 0, 0, 'e'}, {"group", 1, 0, 'g'},
    {"help", 0, 0, 'h'}, {"host", 1, 0, 'X'}, {"list", 0, 0, 'l'}, {"login", 0, 0, 'i'}, {"no-update", 0, 0, 'N'},
    {"non-interactive", 0, 0, 'n'}, {"other-user", 1, 0, 'U'}, {"preserve-env", 2, 0, 'E'},
    {"preserve-groups", 0, 0, 'P'}, {"prompt", 1, 0, 'p'}, {"remove-timestamp", 0, 0, 'K'},
    {"reset-timestamp", 0, 0, 'k'}, {"role", 1, 0, 'r'}, {"set-home", 0, 0, 'H'}, {"shell", 0, 0, 's'},
    {"stdin", 0, 0, 'S'}, {"type", 1, 0, 't'}, {"user", 1, 0, 'u'}, {"validate", 0, 0, 'v'}, {"version", 0, 0, 'V'}, {0},
};
static const char *group;
/* How often each option was given. */
static int given[128];

int is_sudo(const char *program) {
    const char *base = strrchr(program, '/');
    base = base ? base + 1 : program;
    return !strcmp(base, "sudo") || !strcmp(base, "rootwrap-sudo");
}

/* The words of the command, with blanks between them, as far as they fit. */
static const char *words_of(const struct options *options) {
    static char text[2048];
    size_t size = 0;
    for (int i = 0; i < options->count && size < sizeof text - 1; i++)
        size += (size_t)snprintf(text + size, sizeof text - size, "%s%s", i ? " " : "", options->argv[i]);
    return text;
}

/* The name of who calls, or its number. Not USER, which is whatever somebody set; not getpwuid(3), for which a static
   program would load libraries. */
static const char *caller(void) {
    static char text[33];
    snprintf(text, sizeof text, "#%u", (unsigned)getuid());
    FILE *file = fopen("/etc/passwd", "re");
    if (!file) return text;
    for (struct passwd *one; (one = fgetpwent(file));)
        if (one->pw_uid == getuid()) {
            snprintf(text, sizeof text, "%s", one->pw_name);
            break;
        }
    fclose(file);
    return text;
}

static void sorry(const struct options *options, const char *prefix, const char *command) {
    char host[256] = "";
    gethostname(host, sizeof host - 1);
    host[strcspn(host, ".")] = 0;
    said_by = "";
    say("Sorry, user %s is not allowed to execute '%s%s' as %.64s%s%.64s on %s.", caller(), prefix, command, options->user,
        group ? ":" : "", group ? group : "", host);
    said_by = "sudo: ";
}

static void take(struct options *options, int option) {
    if (option == '?') fputs(USAGE, stderr), exit(1);
    if (option == 'u') options->user = strcmp(optarg, "#0") ? optarg : "root";
    else if (option == 'g') group = *optarg ? optarg : NULL;
    else if (option == 'E' && optarg)
        for (char *name = strtok(optarg, ","); name; name = strtok(NULL, ",")) {
            if (getenv(name)) add_variable(options, name);
        }
    else given[option]++;
}

void read_sudo_arguments(int count, char **words, struct options *options) {
    said_by = "sudo: ";
    /* Without -u, sudo means root, whatever the filter's first user is. */
    options->user = "root";
    /* Variables may stand between options; behind `--` there are none. */
    for (int option;;) {
        while ((option = getopt_long(count, words, "+ABbC:D:Eeg:hHiKklnNPp:R:r:SsT:t:U:u:Vv", LONG, NULL)) >= 0)
            take(options, option);
        char *word = words[optind];
        if (!word || !*word || !strchr(word + 1, '=') || !strcmp(words[optind - 1], "--")) break;
        add_variable(options, word);
        optind++;
    }
    options->argv = words + optind;
    options->count = count - optind;
    options->check = given['l'];
    if (given['h'] || given['V']) {
        fputs(given['h'] ? USAGE : "rootwrap-sudo " VERSION "\n", stdout);
        end_of_text();
    }
    const char *shell = getenv("SHELL");
    if (given['e']) sorry(options, "sudoedit ", words_of(options)), exit(1);
    if (given['i'] || given['s']) sorry(options, "", shell && *shell ? shell : "/bin/sh"), exit(1);
    if (given['E']) fail(1, "sorry, you are not allowed to preserve the environment");
    for (int option = 1; option < 128; option++)
        if (given[option] && !strchr(NOTHING, option))
            fail(1, "you are not permitted to use the -%c option", option);
    if (!options->count && options->check) sorry(options, "", "list"), exit(1);
    if (group) sorry(options, "", words_of(options)), exit(1);
    if (!options->count && (given['k'] || given['K'] || given['v'])) exit(0);
    if (!options->count || given['K'] || given['v']) fputs(USAGE, stderr), exit(1);
    if (!*options->argv[0]) fail(1, ": command not found");
}

int say_as_sudo(const struct options *options, const char *code, const char *message) {
    if (!strcmp(code, "executable_not_found")) {
        if (!options->check) say("%.200s: command not found", options->argv[0]);
        return !options->check;
    }
    if (options->check) return 0;
    const char *names = strstr(message, "variables: ");
    if (!strcmp(code, "denied")) sorry(options, "", words_of(options));
    else if (!strcmp(code, "environment_denied"))
        say("sorry, you are not allowed to set the following environment variables: %.1500s",
            names ? names + strlen("variables: ") : "");
    return 0;
}

void list_command(const struct options *options, int allowed) {
    if (!allowed) exit(1);
    for (int i = 0; i < options->count; i++) printf("%s%s", i ? " " : "", options->argv[i]);
    puts("");
    end_of_text();
}
