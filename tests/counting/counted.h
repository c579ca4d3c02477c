/* What programs that icount.c counts share: a mark, and a file in memory. */
#ifndef COUNTED_H
#define COUNTED_H

#include <stdio.h>
#include <stdlib.h>

__attribute__((noinline)) void count_mark(void)
{
    __asm__ volatile("" ::: "memory");
}

static void *whole_file(const char *path, size_t *n_bytes)
{
    FILE *file = fopen(path, "rb");
    void *data;
    if (file == NULL || fseek(file, 0, SEEK_END) != 0) return NULL;
    *n_bytes = (size_t)ftell(file);
    rewind(file);
    data = aligned_alloc(64, (*n_bytes + 63) / 64 * 64);
    if (data != NULL && fread(data, 1, *n_bytes, file) != *n_bytes) data = NULL;
    fclose(file);
    return data;
}

#endif
