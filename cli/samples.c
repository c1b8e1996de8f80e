/* SPDX-License-Identifier: Apache-2.0 */
#include "samples.h"

#include <math.h>
#include <stdlib.h>

static int ascending(const void *a, const void *b) {
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

void samples_sort(double *samples, int count) { qsort(samples, (size_t)count, sizeof *samples, ascending); }

double samples_median(const double *sorted, int count) {
    return count % 2 == 1 ? sorted[count / 2] : (sorted[count / 2 - 1] + sorted[count / 2]) / 2;
}

double samples_quantile(const double *sorted, int count, double quantile) {
    int index = (int)ceil(quantile * count) - 1;
    return sorted[index < 0 ? 0 : index < count ? index : count - 1];
}
