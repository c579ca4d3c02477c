/* The kernel sets of this build, fastest first. */
#include "ed_program.h"

#if defined(ED_X86)
extern const ed_isa ed_avx512, ed_avx2;
#elif defined(ED_ARM64)
extern const ed_isa ed_dotprod, ed_neon;
#elif defined(ED_ARM32)
extern const ed_isa ed_neon;
#elif defined(ED_HELIUM)
extern const ed_isa ed_helium;
#else
extern const ed_isa ed_scalar;
#endif

const ed_isa *const ed_isas[] = {
#if defined(ED_X86)
    &ed_avx512, &ed_avx2,
#elif defined(ED_ARM64)
    &ed_dotprod, &ed_neon,
#elif defined(ED_ARM32)
    &ed_neon,
#elif defined(ED_HELIUM)
    &ed_helium,
#else
    &ed_scalar,
#endif
    &ed_portable, NULL};
