/* SPDX-License-Identifier: Apache-2.0 */
/* All environment variables that the configuration reads. */
#ifndef TESTS_CONFIG_VARIABLES_H
#define TESTS_CONFIG_VARIABLES_H

static const char *const variables[] = {
    "ONEHOP_RANK",         "ONEHOP_NRANKS",     "ONEHOP_DEVICE",
    "ONEHOP_DEVICE_INDEX", "ONEHOP_RENDEZVOUS", "ONEHOP_WORKSPACE_BYTES",
    "ONEHOP_TIMEOUT_MS",   "ONEHOP_MAX_BLOCKS", "ONEHOP_BOOTSTRAP_TIMEOUT_MS",
    "ONEHOP_JOB",          "ONEHOP_ALGORITHM",  "RANK",
    "WORLD_SIZE",          "LOCAL_RANK",        "LOCAL_WORLD_SIZE",
    "MASTER_ADDR",         "MASTER_PORT",       "TORCHELASTIC_RUN_ID",
    "ONEHOP_MEMORY",       "ONEHOP_REPLAYS",    "ONEHOP_CACHE_DIR",
    "ONEHOP_NVRTC",        "XDG_CACHE_HOME",    "HOME",
    "ONEHOP_TUNING",       "XDG_CONFIG_HOME",
};
enum { VARIABLES = sizeof variables / sizeof *variables };

#endif
