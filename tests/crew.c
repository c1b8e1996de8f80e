/* SPDX-License-Identifier: Apache-2.0 */
#include "crew.h"

#include <dirent.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { TIMEOUT_MS = 60000 };

typedef struct crew {
    oh_local_group_t *group; /* NULL: they pass for processes */
    char rendezvous[64];
    duty_fn duty;
    sailor_t *sailors;
} crew_t;

typedef struct berth {
    crew_t *crew;
    sailor_t *sailor;
    pthread_t thread;
} berth_t;

static onehop_result_t open_bootstrap(const crew_t *crew, sailor_t *sailor) {
    onehop_config_t user = ONEHOP_CONFIG_INIT;
    user.rank = sailor->rank;
    user.nranks = sailor->nranks;
    user.device = ONEHOP_DEVICE_CUDA;
    user.rendezvous = crew->rendezvous;
    user.bootstrap_timeout_ms = TIMEOUT_MS;
    oh_config_t config;
    OH_TRY(oh_config_resolve(&user, crew->group != NULL, &config));
    return crew->group != NULL ? oh_bootstrap_open_local(&config, crew->group, &sailor->bootstrap)
                               : oh_bootstrap_open(&config, &sailor->bootstrap);
}

static void *sail(void *argument) {
    berth_t *berth = argument;
    sailor_t *sailor = berth->sailor;
    if (open_bootstrap(berth->crew, sailor) != ONEHOP_SUCCESS) {
        sailor_wrong(sailor, "they do not meet: %s", onehop_last_error());
        return NULL;
    }
    sailor->result = berth->crew->duty(sailor);
    snprintf(sailor->error, sizeof sailor->error, "%s", onehop_last_error());
    oh_bootstrap_close(sailor->bootstrap);
    return NULL;
}

void crew_run(int nranks, bool processes, duty_fn duty, void *ctx, sailor_t *sailors) {
    static int number;
    crew_t crew = {.duty = duty, .sailors = sailors};
    berth_t berths[ONEHOP_MAX_RANKS];
    snprintf(crew.rendezvous, sizeof crew.rendezvous, "unix:@onehop-crew-%d-%d", (int)getpid(), number++);
    if (!processes && oh_local_group_create(nranks, &crew.group) != ONEHOP_SUCCESS) abort();
    for (int r = 0; r < nranks; r++) {
        sailors[r] = (sailor_t){.rank = r, .nranks = nranks, .patience = {.timeout_ms = TIMEOUT_MS}, .ctx = ctx};
        berths[r] = (berth_t){.crew = &crew, .sailor = &sailors[r]};
        if (pthread_create(&berths[r].thread, NULL, sail, &berths[r]) != 0) abort();
    }
    for (int r = 0; r < nranks; r++) pthread_join(berths[r].thread, NULL);
    if (crew.group != NULL) oh_local_group_release(crew.group);
}

void sailor_meet(sailor_t *sailor) {
    char mine = 0, all[ONEHOP_MAX_RANKS];
    if (oh_bootstrap_allgather(sailor->bootstrap, "meet", &mine, all, 1, &sailor->patience) == ONEHOP_SUCCESS) return;
    sailor_wrong(sailor, "they lose one another: %s", onehop_last_error());
}

void sailor_wrong(sailor_t *sailor, const char *format, ...) {
    if (sailor->wrong[0] != '\0') return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(sailor->wrong, sizeof sailor->wrong, format, arguments);
    va_end(arguments);
}

int descriptors_now(void) {
    int count = 0;
    DIR *directory = opendir("/proc/self/fd");
    if (directory == NULL) abort();
    while (readdir(directory) != NULL) count++;
    closedir(directory);
    return count;
}
