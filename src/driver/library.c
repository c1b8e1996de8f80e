/* SPDX-License-Identifier: Apache-2.0 */
#include "driver/library.h"

#include <dlfcn.h>
#include <string.h>

void *oh_library_open(const char *file) { return dlopen(file, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE); }

const char *oh_library_resolve(void *library, const oh_symbol_t *symbols, size_t count, void *table) {
    for (size_t i = 0; i < count; i++) {
        void *address = dlsym(library, symbols[i].name);
        if (address == NULL) return symbols[i].name;
        memcpy((char *)table + symbols[i].offset, &address, sizeof address);
    }
    return NULL;
}
