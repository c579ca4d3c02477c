/* A start and some hops of the shared library as it is shipped, with a mark after each part, for icount.c to count.
 *
 *     start LIBRARY WEIGHTS SAMPLES
 *
 * SAMPLES: float32, whole hops. Marks: two in a row, which tell what one costs; the library is loaded and its functions
 * are found; weights are checked and a stream is made; then one after each hop. Nothing is printed and no memory is taken
 * between the first and the last.
 */
#include <dlfcn.h>

#include "counted.h"
#include "edge_denoise.h"

int main(int argc, char **argv)
{
    enum { MOST_STATE_BYTES = 1 << 20 };
    size_t n_weights = 0, n_sample_bytes = 0, n_state = 0, k;
    void *weights, *state = aligned_alloc(64, MOST_STATE_BYTES), *library;
    float *samples, out[ED_HOP_SAMPLES];
    ed_status (*size)(const void *, size_t, size_t *), status;
    ed_status (*init)(void *, size_t, const void *, size_t);
    uint32_t (*process)(void *, const float *, float *);
    if (argc != 4) return fputs("usage: start LIBRARY WEIGHTS SAMPLES\n", stderr), 2;
    weights = whole_file(argv[2], &n_weights), samples = whole_file(argv[3], &n_sample_bytes);
    if (weights == NULL || samples == NULL || state == NULL) return fputs("start: a file cannot be read\n", stderr), 1;
    count_mark();
    count_mark();
    library = dlopen(argv[1], RTLD_LAZY);
    if (library == NULL) return fputs(dlerror(), stderr), 1;
    *(void **)&size = dlsym(library, "ed_size");
    *(void **)&init = dlsym(library, "ed_init");
    *(void **)&process = dlsym(library, "ed_process");
    count_mark();
    status = size(weights, n_weights, &n_state);
    if (status == ED_OK) status = init(state, MOST_STATE_BYTES, weights, n_weights);
    count_mark();
    if (status != ED_OK) return fprintf(stderr, "start: refused, %d\n", (int)status), 1;
    for (k = 0; k < n_sample_bytes / sizeof *samples / ED_HOP_SAMPLES; k++) {
        process(state, samples + k * ED_HOP_SAMPLES, out);
        count_mark();
    }
    return 0;
}
