/* SPDX-License-Identifier: Apache-2.0 */
/* Times that were measured several times over. */
#ifndef CLI_SAMPLES_H
#define CLI_SAMPLES_H

void samples_sort(double *samples, int count);

/* Of sorted samples, one at least: the one in the middle, or between the two there. */
double samples_median(const double *sorted, int count);

/* The value that a share of `quantile` of sorted samples, one at least, does not exceed. */
double samples_quantile(const double *sorted, int count, double quantile);

#endif
