/* SPDX-License-Identifier: Apache-2.0 */
#include "select/built_in.h"

#include <string.h>

enum { KIB = 1024, MIB = 1024 * 1024 };

#define HOST "built-in table"
#define H200 "built-in table for NVIDIA H200"

/* from bytes, algorithm, chunk, stream */
const oh_host_tables_t oh_built_in_host = {.of = {
                                               [OH_NEAR] = {{HOST,
                                                             4,
                                                             {{0, OH_ONE_SHOT, 64 * KIB, false},
                                                              {2 * KIB, OH_TWO_SHOT, 64 * KIB, false},
                                                              {512 * KIB, OH_TWO_SHOT, 128 * KIB, false},
                                                              {32 * MIB, OH_TWO_SHOT, 128 * KIB, true}}},
                                                            {HOST,
                                                             4,
                                                             {{0, OH_ONE_SHOT, 64 * KIB, false},
                                                              {2 * KIB, OH_TWO_SHOT, 64 * KIB, false},
                                                              {4 * KIB, OH_DIRECT, 0, false},
                                                              {16 * MIB, OH_DIRECT, 0, true}}}},
                                               [OH_FAR] = {{HOST,
                                                            4,
                                                            {{0, OH_ONE_SHOT, 64 * KIB, false},
                                                             {1 * KIB, OH_TWO_SHOT, 64 * KIB, false},
                                                             {512 * KIB, OH_TWO_SHOT, 128 * KIB, false},
                                                             {32 * MIB, OH_TWO_SHOT, 128 * KIB, true}}},
                                                           {HOST,
                                                            4,
                                                            {{0, OH_ONE_SHOT, 64 * KIB, false},
                                                             {1 * KIB, OH_TWO_SHOT, 64 * KIB, false},
                                                             {4 * KIB, OH_DIRECT, 0, false},
                                                             {16 * MIB, OH_DIRECT, 0, true}}}},
                                               [OH_OVERSUBSCRIBED] = {{HOST,
                                                                       3,
                                                                       {{0, OH_ONE_SHOT, 64 * KIB, false},
                                                                        {16 * KIB, OH_TWO_SHOT, 256 * KIB, false},
                                                                        {32 * MIB, OH_TWO_SHOT, 256 * KIB, true}}},
                                                                      {HOST,
                                                                       3,
                                                                       {{0, OH_ONE_SHOT, 64 * KIB, false},
                                                                        {8 * KIB, OH_DIRECT, 0, false},
                                                                        {16 * MIB, OH_DIRECT, 0, true}}}},
                                           }};

/* In ascending order of ranks. */
static const struct {
    const char *gpu;
    oh_links_t links;
    int nranks; /* up to */
    oh_device_table_t table;
} devices[] = {
    /* from bytes, algorithm, packets, threads, blocks */
    {"NVIDIA H200",
     OH_NVLINK,
     2,
     {H200,
      8,
      {{0, OH_ONE_SHOT_PUSH, 1, 64, 132},
       {48 * KIB, OH_ONE_SHOT_PUSH, 1, 128, 132},
       {320 * KIB, OH_ONE_SHOT_PUSH, 1, 256, 132},
       {640 * KIB, OH_ONE_SHOT_PUSH, 1, 512, 132},
       {1536 * KIB, OH_ONE_SHOT_PUSH, 2, 512, 132},
       {2560 * KIB, OH_ONE_SHOT_PUSH, 4, 512, 132},
       {5 * MIB, OH_TWO_SHOT_PUSH, 4, 512, 132},
       {9 * MIB, OH_TWO_SHOT_PUSH, 2, 512, 132}}}},
    {"NVIDIA H200",
     OH_NVLINK,
     4,
     {H200,
      6,
      {{0, OH_ONE_SHOT_PUSH, 1, 64, 132},
       {48 * KIB, OH_ONE_SHOT_PUSH, 1, 128, 132},
       {160 * KIB, OH_ONE_SHOT_PUSH, 1, 256, 132},
       {288 * KIB, OH_TWO_SHOT_PUSH, 1, 256, 132},
       {2560 * KIB, OH_TWO_SHOT_PUSH, 1, 512, 132},
       {5 * MIB, OH_TWO_SHOT_PUSH, 2, 512, 132}}}},
    {"NVIDIA H200",
     OH_NVLINK,
     8,
     {H200,
      5,
      {{0, OH_ONE_SHOT_PUSH, 1, 64, 132},
       {64 * KIB, OH_ONE_SHOT_PUSH, 1, 128, 132},
       {96 * KIB, OH_TWO_SHOT_PUSH, 1, 64, 132},
       {1 * MIB, OH_TWO_SHOT_PUSH, 1, 128, 132},
       {4 * MIB, OH_TWO_SHOT_PUSH, 1, 256, 132}}}},
};

const oh_device_table_t *oh_built_in_device(const char *gpu, oh_links_t links, int nranks) {
    for (size_t i = 0; i < sizeof devices / sizeof *devices; i++) {
        bool same = strncmp(gpu, devices[i].gpu, strlen(devices[i].gpu)) == 0 && links == devices[i].links;
        if (same && nranks <= devices[i].nranks) return &devices[i].table;
    }
    return NULL;
}
