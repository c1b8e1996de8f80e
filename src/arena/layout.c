/* SPDX-License-Identifier: Apache-2.0 */
#include "arena/layout.h"

oh_layout_t oh_layout_make(size_t workspace_bytes, int nranks, size_t chunk_max) {
    size_t ranks = (size_t)nranks;
    /* ring * (chunk + chunk / ranks + rounding) must fit beside the control page. */
    size_t room = (workspace_bytes - OH_PAGE) / OH_RING - OH_PART_ALIGN;
    size_t chunk = room * ranks / (ranks + 1);
    if (chunk > chunk_max) chunk = chunk_max;
    chunk = chunk / OH_PAGE * OH_PAGE;

    oh_layout_t layout = {.chunk_bytes = chunk, .result_bytes = oh_part_begin(chunk, 1, nranks)};
    layout.results = OH_PAGE + OH_RING * chunk;
    layout.total = (layout.results + OH_RING * layout.result_bytes + OH_PAGE - 1) / OH_PAGE * OH_PAGE;
    return layout;
}
