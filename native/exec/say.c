/* Say what failed, on standard error. */
#include "exec.h"

#include <stdarg.h>

const char *said_by = PROGRAM ": ";
int as_sudo;

void say(const char *format, ...) {
    char line[4096];
    va_list values;
    va_start(values, format);
    int size = vsnprintf(line, sizeof line - 1, format, values);
    va_end(values);
    if (size < 0) return;
    if ((size_t)size > sizeof line - 2) size = (int)sizeof line - 2;
    for (int i = 0; i < size; i++)
        if ((unsigned char)line[i] < ' ' || line[i] == 0x7f) line[i] = '?';
    line[size] = '\n';
    if (write(2, said_by, strlen(said_by)) < 0 || write(2, line, (size_t)size + 1) < 0) return;
}
