/* SPDX-License-Identifier: Apache-2.0 */
#include "base/config.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"

/* One row per number that the configuration holds. A field equal to `unset` is looked up in the environment. */
typedef struct number_field {
    const char *field;
    const char *variable, *torchrun; /* torchrun's name for it, or NULL */
    long long unset, fallback;       /* REQUIRED: there is none, a value must be given */
    long long min, max;
} number_field_t;

#define REQUIRED LLONG_MIN

enum { RANK, NRANKS, DEVICE_INDEX, WORKSPACE, TIMEOUT, MAX_BLOCKS, BOOTSTRAP_TIMEOUT };

static const number_field_t numbers[] = {
    [RANK] = {"rank", "ONEHOP_RANK", "RANK", -1, REQUIRED, 0, ONEHOP_MAX_RANKS - 1},
    [NRANKS] = {"nranks", "ONEHOP_NRANKS", "WORLD_SIZE", -1, REQUIRED, 1, ONEHOP_MAX_RANKS},
    [DEVICE_INDEX] = {"device_index", "ONEHOP_DEVICE_INDEX", "LOCAL_RANK", -1, -1, 0, 1023},
    [WORKSPACE] = {"workspace_bytes", "ONEHOP_WORKSPACE_BYTES", NULL, 0, 32 << 20, OH_WORKSPACE_MIN, 1LL << 40},
    [TIMEOUT] = {"timeout_ms", "ONEHOP_TIMEOUT_MS", NULL, 0, 30000, 1, INT_MAX},
    [MAX_BLOCKS] = {"max_blocks", "ONEHOP_MAX_BLOCKS", NULL, 0, 0, 0, 65535},
    [BOOTSTRAP_TIMEOUT] = {"bootstrap_timeout_ms", "ONEHOP_BOOTSTRAP_TIMEOUT_MS", NULL, 0, 60000, 1, INT_MAX},
};

static const char *environment(const char *name) {
    const char *value = name == NULL ? NULL : getenv(name);
    return value == NULL || value[0] == '\0' ? NULL : value;
}

static onehop_result_t resolve_number(int index, long long given, long long *out) {
    const number_field_t *f = &numbers[index];
    const char *source = f->field;
    long long value = given;
    if (given == f->unset) {
        source = f->variable;
        const char *text = environment(f->variable);
        if (text == NULL && f->torchrun != NULL) {
            source = f->torchrun;
            text = environment(f->torchrun);
        }
        if (text == NULL) {
            if (f->fallback == REQUIRED) {
                return oh_fail(ONEHOP_INVALID_ARGUMENT,
                               "%s is not set: give it in the configuration or in the environment as %s or %s",
                               f->field, f->variable, f->torchrun);
            }
            *out = f->fallback;
            return ONEHOP_SUCCESS;
        }
        char *end;
        errno = 0;
        value = strtoll(text, &end, 10);
        if (errno != 0 || end == text || *end != '\0') {
            return oh_fail(ONEHOP_INVALID_ARGUMENT,
                           "environment variable %s=\"%.64s\": expected a number from %lld to %lld", source, text,
                           f->min, f->max);
        }
    }
    if (value < f->min || value > f->max) {
        return oh_fail(ONEHOP_INVALID_ARGUMENT, "%s is %lld: expected %lld to %lld", source, value, f->min, f->max);
    }
    *out = value;
    return ONEHOP_SUCCESS;
}

static onehop_result_t copy_text(const char *source, const char *text, char *out, size_t capacity) {
    size_t length = strlen(text);
    if (length >= capacity) {
        return oh_fail(ONEHOP_INVALID_ARGUMENT, "%s is %zu bytes long: expected at most %zu", source, length,
                       capacity - 1);
    }
    memcpy(out, text, length + 1);
    return ONEHOP_SUCCESS;
}

/* A text field: the caller's, else the first of two variables that is set, else the default. */
static onehop_result_t resolve_text(const char *field, const char *given, const char *variable, const char *torchrun,
                                    const char *fallback, char *out, size_t capacity) {
    if (given != NULL) return copy_text(field, given, out, capacity);
    const char *text = environment(variable);
    if (text != NULL) return copy_text(variable, text, out, capacity);
    text = environment(torchrun);
    if (text != NULL) return copy_text(torchrun, text, out, capacity);
    return copy_text(field, fallback, out, capacity);
}

static onehop_result_t resolve_device(onehop_device_t given, onehop_device_t *out) {
    *out = given;
    if (given == ONEHOP_DEVICE_HOST || given == ONEHOP_DEVICE_CUDA) return ONEHOP_SUCCESS;
    if (given != ONEHOP_DEVICE_AUTO) {
        return oh_fail(ONEHOP_INVALID_ARGUMENT, "device is %d: expected ONEHOP_DEVICE_AUTO, _HOST or _CUDA",
                       (int)given);
    }
    const char *text = environment("ONEHOP_DEVICE");
    if (text == NULL || strcmp(text, "auto") == 0) return ONEHOP_SUCCESS;
    if (strcmp(text, "host") == 0) {
        *out = ONEHOP_DEVICE_HOST;
    } else if (strcmp(text, "cuda") == 0) {
        *out = ONEHOP_DEVICE_CUDA;
    } else {
        return oh_fail(ONEHOP_INVALID_ARGUMENT,
                       "environment variable ONEHOP_DEVICE=\"%.64s\": expected \"auto\", \"host\" or \"cuda\"", text);
    }
    return ONEHOP_SUCCESS;
}

const char *oh_share_string(oh_share_t share) {
    static const char *const names[OH_SHARES] = {"auto", "vmm", "ipc"};
    return (int)share >= 0 && share < OH_SHARES ? names[share] : NULL;
}

static onehop_result_t resolve_memory(const char *given, oh_share_t *out) {
    const char *text = given != NULL ? given : environment("ONEHOP_MEMORY");
    *out = OH_SHARE_AUTO;
    if (text == NULL) return ONEHOP_SUCCESS;
    for (int share = 0; share < OH_SHARES; share++) {
        *out = (oh_share_t)share;
        if (strcmp(text, oh_share_string(*out)) == 0) return ONEHOP_SUCCESS;
    }
    return oh_fail(ONEHOP_INVALID_ARGUMENT, "%s is \"%.64s\": expected \"auto\", \"vmm\" or \"ipc\"",
                   given != NULL ? "memory" : "environment variable ONEHOP_MEMORY", text);
}

static onehop_result_t resolve_replays(const char *given, bool *ordered) {
    const char *text = given != NULL ? given : environment("ONEHOP_REPLAYS");
    *ordered = text == NULL || strcmp(text, "ordered") == 0;
    if (*ordered || strcmp(text, "free") == 0) return ONEHOP_SUCCESS;
    return oh_fail(ONEHOP_INVALID_ARGUMENT, "%s is \"%.64s\": expected \"ordered\" or \"free\"",
                   given != NULL ? "replays" : "environment variable ONEHOP_REPLAYS", text);
}

/*
 * torchrun's own store listens on MASTER_PORT, so that port cannot be ours. Its name can: it becomes an abstract Unix
 * socket, which leaves no file behind.
 */
static onehop_result_t name_after_torchrun(oh_address_t *out) {
    const char *address = environment("MASTER_ADDR"), *port = environment("MASTER_PORT");
    if (address == NULL || port == NULL) {
        return oh_fail(ONEHOP_INVALID_ARGUMENT,
                       "rendezvous is not set: expected \"unix:/path\", \"unix:@name\" or \"tcp:host:port\" in the "
                       "configuration or ONEHOP_RENDEZVOUS, or MASTER_ADDR and MASTER_PORT as torchrun sets them");
    }
    const char *local_size = environment("LOCAL_WORLD_SIZE"), *size = environment("WORLD_SIZE");
    if (local_size != NULL && size != NULL && strcmp(local_size, size) != 0) {
        return oh_fail(ONEHOP_UNSUPPORTED,
                       "WORLD_SIZE=%.16s but LOCAL_WORLD_SIZE=%.16s: Onehop joins ranks of one machine; give the "
                       "rank, nranks and rendezvous of this machine's group in the configuration",
                       size, local_size);
    }
    char text[sizeof out->text];
    snprintf(text, sizeof text, "unix:@onehop-%.80s-%.8s", address, port);
    return oh_address_parse("MASTER_ADDR", text, out);
}

static onehop_result_t resolve_rendezvous(const char *given, int nranks, oh_address_t *out) {
    if (given != NULL) return oh_address_parse("rendezvous", given, out);
    const char *text = environment("ONEHOP_RENDEZVOUS");
    if (text != NULL) return oh_address_parse("environment variable ONEHOP_RENDEZVOUS", text, out);
    return nranks == 1 ? ONEHOP_SUCCESS : name_after_torchrun(out);
}

/* "" where that is too long: nobody asked for a file there. */
static void join(const char *directory, const char *below, char *out) {
    if (snprintf(out, OH_PATH_MAX, "%s/%s", directory, below) >= OH_PATH_MAX) out[0] = '\0';
}

/* As the XDG Base Directory Specification has it; it wants relative paths to be ignored. */
static void usual_place(const char *variable, const char *below_it, const char *below_home, char *out) {
    const char *xdg = environment(variable), *home = environment("HOME");
    out[0] = '\0';
    if (xdg != NULL && xdg[0] == '/') {
        join(xdg, below_it, out);
    } else if (home != NULL && home[0] == '/') {
        join(home, below_home, out);
    }
}

static onehop_result_t resolve_cache(const char *given, char *out) {
    if (given == NULL && environment("ONEHOP_CACHE_DIR") == NULL) {
        usual_place("XDG_CACHE_HOME", "onehop", ".cache/onehop", out);
        return ONEHOP_SUCCESS;
    }
    OH_TRY(resolve_text("cache_dir", given, "ONEHOP_CACHE_DIR", NULL, "", out, OH_PATH_MAX));
    if (strcmp(out, "none") == 0) out[0] = '\0';
    return ONEHOP_SUCCESS;
}

static onehop_result_t resolve_tuning(const char *given, oh_config_t *out) {
    char *file = out->tuning_file;
    if (given == NULL && environment("ONEHOP_TUNING") == NULL) {
        usual_place("XDG_CONFIG_HOME", "onehop/tuning.json", ".config/onehop/tuning.json", file);
        out->tuning = file[0] == '\0' ? OH_TUNING_BUILT_IN : OH_TUNING_USUAL;
        return ONEHOP_SUCCESS;
    }
    OH_TRY(resolve_text("tuning", given, "ONEHOP_TUNING", NULL, "", file, OH_PATH_MAX));
    if (file[0] == '\0') {
        return oh_fail(ONEHOP_INVALID_ARGUMENT,
                       "tuning is \"\": expected the name of a file, \"built-in\" or \"model\"");
    }
    out->tuning = strcmp(file, "built-in") == 0 ? OH_TUNING_BUILT_IN
                  : strcmp(file, "model") == 0  ? OH_TUNING_MODEL
                                                : OH_TUNING_NAMED;
    return ONEHOP_SUCCESS;
}

/* Copies what an older caller's structure holds over the defaults; a newer one may only hold zeros beyond ours. */
static onehop_result_t read_user(const onehop_config_t *user, onehop_config_t *out) {
    *out = (onehop_config_t)ONEHOP_CONFIG_INIT;
    if (user == NULL) return ONEHOP_SUCCESS;
    size_t smallest = offsetof(onehop_config_t, algorithm) + sizeof user->algorithm;
    if (user->size < smallest || user->size > 4096) {
        return oh_fail(ONEHOP_INVALID_ARGUMENT, "config.size is %zu: expected %zu; start from ONEHOP_CONFIG_INIT",
                       user->size, sizeof *user);
    }
    const unsigned char *bytes = (const unsigned char *)user;
    for (size_t i = sizeof *user; i < user->size; i++) {
        if (bytes[i] != 0) {
            return oh_fail(ONEHOP_UNSUPPORTED,
                           "config uses a field of a newer Onehop than this one, %s (config.size %zu, here %zu)",
                           onehop_version(), user->size, sizeof *user);
        }
    }
    memcpy(out, user, user->size < sizeof *out ? user->size : sizeof *out);
    return ONEHOP_SUCCESS;
}

onehop_result_t oh_config_resolve(const onehop_config_t *user, int local, oh_config_t *out) {
    onehop_config_t in;
    OH_TRY(read_user(user, &in));
    memset(out, 0, sizeof *out);

    long long value;
    OH_TRY(resolve_number(NRANKS, in.nranks, &value));
    out->nranks = (int)value;
    OH_TRY(resolve_number(RANK, in.rank, &value));
    out->rank = (int)value;
    if (out->rank >= out->nranks) {
        return oh_fail(ONEHOP_INVALID_ARGUMENT, "rank is %d: expected 0 to %d, as nranks is %d", out->rank,
                       out->nranks - 1, out->nranks);
    }
    OH_TRY(resolve_device(in.device, &out->device));
    OH_TRY(resolve_number(DEVICE_INDEX, in.device_index, &value));
    out->device_index = value < 0 ? out->rank : (int)value;
    if (in.workspace_bytes > LLONG_MAX) {
        return oh_fail(ONEHOP_INVALID_ARGUMENT, "workspace_bytes is %zu: expected %lld to %lld", in.workspace_bytes,
                       numbers[WORKSPACE].min, numbers[WORKSPACE].max);
    }
    OH_TRY(resolve_number(WORKSPACE, (long long)in.workspace_bytes, &value));
    out->workspace_bytes = (size_t)value;
    OH_TRY(resolve_number(TIMEOUT, in.timeout_ms, &value));
    out->timeout_ms = (int)value;
    OH_TRY(resolve_number(MAX_BLOCKS, in.max_blocks, &value));
    out->max_blocks = (int)value;
    OH_TRY(resolve_number(BOOTSTRAP_TIMEOUT, in.bootstrap_timeout_ms, &value));
    out->bootstrap_timeout_ms = (int)value;
    OH_TRY(resolve_text("job", in.job, "ONEHOP_JOB", "TORCHELASTIC_RUN_ID", "", out->job, sizeof out->job));
    OH_TRY(resolve_text("algorithm", in.algorithm, "ONEHOP_ALGORITHM", NULL, "auto", out->algorithm,
                        sizeof out->algorithm));
    OH_TRY(resolve_memory(in.memory, &out->memory));
    OH_TRY(resolve_replays(in.replays, &out->orders_replays));
    OH_TRY(resolve_cache(in.cache_dir, out->cache_directory));
    OH_TRY(resolve_tuning(in.tuning, out));
    OH_TRY(resolve_text("nvrtc", NULL, "ONEHOP_NVRTC", NULL, "", out->nvrtc, sizeof out->nvrtc));
    out->allgather = in.allgather;
    out->allgather_ctx = in.allgather_ctx;
    if (!local && in.allgather == NULL) {
        OH_TRY(resolve_rendezvous(in.rendezvous, out->nranks, &out->rendezvous));
    }
    return ONEHOP_SUCCESS;
}
