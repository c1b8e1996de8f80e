/* SPDX-License-Identifier: Apache-2.0 */
#include "machine.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>

/* The value of the first line "key : value" of /proc/cpuinfo; not all architectures name their processors there. */
static bool cpuinfo(const char *key, char *out, size_t room) {
    FILE *file = fopen("/proc/cpuinfo", "r");
    if (file == NULL) return false;
    char line[512];
    bool found = false;
    while (!found && fgets(line, sizeof line, file) != NULL) {
        char *colon = strchr(line, ':');
        if (colon == NULL || strncmp(line, key, strlen(key)) != 0) continue;
        char *value = colon + 1 + strspn(colon + 1, " \t");
        value[strcspn(value, "\n")] = '\0';
        snprintf(out, room, "%s", value);
        found = out[0] != '\0';
    }
    fclose(file);
    return found;
}

void machine_describe(machine_t *out) {
    struct utsname name;
    uname(&name);
    snprintf(out->host, sizeof out->host, "%s", name.nodename);
    snprintf(out->kernel, sizeof out->kernel, "%.64s %.64s", name.sysname, name.release);
    if (!cpuinfo("model name", out->cpu, sizeof out->cpu)) snprintf(out->cpu, sizeof out->cpu, "%s", name.machine);
    time_t now = time(NULL);
    struct tm utc;
    gmtime_r(&now, &utc);
    strftime(out->date, sizeof out->date, "%Y-%m-%dT%H:%M:%SZ", &utc);
}
