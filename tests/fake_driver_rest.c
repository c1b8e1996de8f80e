/* SPDX-License-Identifier: Apache-2.0 */
/* All other functions of the driver and of NVRTC, for those who look whether they are there. */
#define FUNCTION(member, symbol)                                                                                       \
    __attribute__((weak)) int symbol(void);                                                                            \
    int symbol(void) { return 1; }
#include "cuda_functions.inc"
#include "nvrtc_functions.inc"
