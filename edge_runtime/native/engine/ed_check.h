/* What must hold of weights before they run: every index within its memory. */
#ifndef ED_CHECK_H
#define ED_CHECK_H

#include "edge_denoise.h"
#include "ed_program.h"

/* Runs once: on a microcontroller flash is dearer than its time. */
#if defined(ED_NO_VECTORS) && defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("Os")
#endif

/* Magic, version, size, hash, and the bounds of every operation. */
ed_status ed_check(const void *weights, size_t n_bytes);

/* Whether the result is 8-bit. */
int ed_makes_i8(const ed_op *op);

/* Bytes of a number of the result. */
int ed_result_bytes(const ed_op *op);

#endif
