/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any text in the environment: it is refused with a sentence, or gives a configuration in which all is as it should be.
 * The input is a list of settings, each a byte that tells which variable and a text that ends with a zero.
 */
#include <stdlib.h>
#include <string.h>

#include "base/config.h"
#include "base/status.h"
#include "config_variables.h"

static void require(int condition) {
    if (!condition) abort();
}

static void check(const oh_config_t *config) {
    require(config->nranks >= 1 && config->nranks <= ONEHOP_MAX_RANKS);
    require(config->rank >= 0 && config->rank < config->nranks);
    require(onehop_device_string(config->device) != NULL);
    require(config->device_index >= 0 && config->timeout_ms > 0 && config->bootstrap_timeout_ms > 0);
    require(config->workspace_bytes >= OH_WORKSPACE_MIN && config->max_blocks >= 0);
    require(memchr(config->job, 0, sizeof config->job) && memchr(config->algorithm, 0, sizeof config->algorithm));
    require(oh_share_string(config->memory) != NULL);
    require(memchr(config->cache_directory, 0, sizeof config->cache_directory) != NULL);
    require(memchr(config->tuning_file, 0, sizeof config->tuning_file) != NULL);
    require(config->tuning == OH_TUNING_BUILT_IN || config->tuning_file[0] != '\0');
    require(memchr(config->nvrtc, 0, sizeof config->nvrtc) != NULL);
    const oh_address_t *address = &config->rendezvous;
    if (address->text[0] == '\0') return;
    if (oh_address_is_unix(address)) {
        require((address->path[0] == '/' || address->path[0] == '@') && strlen(address->path) <= OH_UNIX_NAME_MAX);
    } else {
        long port = strtol(address->port, NULL, 10);
        require(strlen(address->host) > 0 && port >= 1 && port <= 65535);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    for (int i = 0; i < VARIABLES; i++) unsetenv(variables[i]);
    for (size_t at = 0; at + 1 < size;) {
        const char *name = variables[data[at++] % VARIABLES];
        size_t length = strnlen((const char *)data + at, size - at);
        char *value = strndup((const char *)data + at, length);
        setenv(name, value, 1);
        free(value);
        at += length + 1;
    }
    for (int local = 0; local < 2; local++) {
        oh_config_t config;
        onehop_result_t result = oh_config_resolve(NULL, local, &config);
        if (result == ONEHOP_SUCCESS) {
            check(&config);
        } else {
            require(result == ONEHOP_INVALID_ARGUMENT || result == ONEHOP_UNSUPPORTED);
            require(strlen(onehop_last_error()) > 10);
        }
    }
    return 0;
}
