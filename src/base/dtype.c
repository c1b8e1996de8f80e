/* SPDX-License-Identifier: Apache-2.0 */
#include "base/dtype.h"

size_t onehop_dtype_size(onehop_dtype_t dtype) {
    return oh_dtype_valid(dtype) ? (size_t)1 << oh_dtype_shift(dtype) : 0;
}

const char *onehop_dtype_string(onehop_dtype_t dtype) {
    static const char *const name[OH_DTYPES] = {"float32", "float16", "bfloat16", "float64", "int8",
                                                "uint8",   "int32",   "uint32",   "int64",   "uint64"};
    return oh_dtype_valid(dtype) ? name[dtype] : NULL;
}

const char *onehop_op_string(onehop_op_t op) {
    static const char *const name[OH_OPS] = {"sum", "prod", "min", "max", "avg"};
    return oh_op_valid(op) ? name[op] : NULL;
}

const char *onehop_device_string(onehop_device_t device) {
    switch (device) {
    case ONEHOP_DEVICE_AUTO: return "auto";
    case ONEHOP_DEVICE_HOST: return "host";
    case ONEHOP_DEVICE_CUDA: return "cuda";
    }
    return NULL;
}
