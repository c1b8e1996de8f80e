/* SPDX-License-Identifier: Apache-2.0 */
#include "arena/layout.h"

oh_layout_t oh_layout_make(size_t workspace_bytes, size_t chunk_max) {
    size_t chunk = (workspace_bytes - OH_PAGE) / OH_SLOTS;
    if (chunk > chunk_max) chunk = chunk_max;
    chunk = chunk / OH_PAGE * OH_PAGE;
    return (oh_layout_t){.chunk_bytes = chunk, .total = OH_PAGE + OH_SLOTS * chunk};
}
