/* Constants of the Fourier transform; their numbers are written by make_tables.py. */
#ifndef ED_TABLES_H
#define ED_TABLES_H

#include "ed_program.h"

/* Periodic windows by ed_window_name. That of synthesis is divided by the sum of the squared windows over a sample, so
 * that what is not changed comes out as it went in. */
typedef struct {
    const float *analysis, *synthesis; /* 512 */
} ed_window;

extern const ed_window ed_windows[ED_N_WINDOWS];
/* exp(-2 pi i j k / 256) / 2, [j][k]: between two passes of 16. The half is of what becomes of both ends of a spectrum. */
extern const float ed_twiddle_re[256], ed_twiddle_im[256];
extern const float ed_unpack_re[ED_PLANE], ed_unpack_im[ED_PLANE]; /* exp(-2 pi i k / 512): 256 bins to 257 real ones */

#endif
