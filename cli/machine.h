/* SPDX-License-Identifier: Apache-2.0 */
/* Where and when: what reports say of the machine they were made on. */
#ifndef CLI_MACHINE_H
#define CLI_MACHINE_H

typedef struct machine {
    char host[128];   /* its name */
    char cpu[128];    /* what its processors are called */
    char kernel[160]; /* "Linux 6.1.0" */
    char date[32];    /* now, UTC: "2026-01-31T12:00:00Z" */
} machine_t;

void machine_describe(machine_t *out);

#endif
