/* SPDX-License-Identifier: Apache-2.0 */
/* Any file of tuning tables: it is refused with a sentence, or gives tables that can be used as they are. */
#include <stdlib.h>
#include <string.h>

#include "arena/device_layout.h"
#include "base/dtype.h"
#include "base/status.h"
#include "select/device.h"
#include "select/select.h"
#include "select/tuning.h"

static void require(int condition) {
    if (!condition) abort();
}

static void check_gpus(const oh_tuned_gpus_t *gpus) {
    require(gpus->nranks >= 1 && gpus->nranks <= OH_GPU_RANKS && oh_links_name(gpus->links) != NULL);
    require(oh_dtype_valid(gpus->dtype) && gpus->max_blocks >= 0 && strlen(gpus->gpu) > 0);
    require(gpus->table.count >= 1 && gpus->table.count <= OH_TABLE_ROWS && strlen(gpus->table.name) > 0);
    for (int i = 0; i < gpus->table.count; i++) {
        const oh_device_row_t *row = &gpus->table.rows[i];
        require(i == 0 ? row->from_bytes == 0 : row->from_bytes > row[-1].from_bytes);
        require((int)row->algorithm >= 0 && row->algorithm < OH_DEVICE_ALGORITHMS);
        require(row->packets == 1 || row->packets == 2 || row->packets == 4);
        require(oh_device_algorithms[row->algorithm].packets || row->packets == 1);
        require(row->threads >= 32 && row->threads <= 512 && row->threads % 32 == 0 && row->blocks >= 1);
    }
}

static void check_hosts(const oh_tuned_hosts_t *hosts) {
    require(hosts->nranks >= 1 && hosts->nranks <= ONEHOP_MAX_RANKS && oh_placement_name(hosts->placement) != NULL);
    require(hosts->table.count >= 1 && hosts->table.count <= OH_TABLE_ROWS && strlen(hosts->table.name) > 0);
    for (int i = 0; i < hosts->table.count; i++) {
        const oh_host_row_t *row = &hosts->table.rows[i];
        require(i == 0 ? row->from_bytes == 0 : row->from_bytes > row[-1].from_bytes);
        require((int)row->algorithm >= 0 && row->algorithm < OH_ALGORITHMS);
        require(hosts->registered || !oh_algorithms[row->algorithm].needs_registration);
        require(row->chunk_bytes % 4096 == 0 && (row->chunk_bytes > 0 || row->algorithm == OH_DIRECT));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size > OH_TUNING_FILE_BYTES) return 0;
    char *text = malloc(size + 1);
    oh_tuning_file_t file;
    memcpy(text, data, size);
    text[size] = '\0';
    onehop_result_t result = oh_tuning_file_parse("file", text, size, &file);
    free(text);
    if (result != ONEHOP_SUCCESS) {
        require(result == ONEHOP_INVALID_ARGUMENT && strstr(onehop_last_error(), "file: ") != NULL);
        require(file.gpus == NULL && file.hosts == NULL);
        return 0;
    }
    for (int i = 0; i < file.ngpus; i++) check_gpus(&file.gpus[i]);
    for (int i = 0; i < file.nhosts; i++) check_hosts(&file.hosts[i]);
    oh_tuning_file_free(&file);
    return 0;
}
