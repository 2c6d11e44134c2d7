/* tests/fuzz/replay.c: runs a fuzz target over the files of its corpus, for compilers without libFuzzer. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);
int LLVMFuzzerInitialize(int *argc, char ***argv) __attribute__((weak));

static void replay_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (f == NULL) {
        perror(path);
        exit(1);
    }
    struct buf b = BUF_INIT;
    size_t n;
    while ((n = fread(buf_reserve(&b, 4096), 1, 4096, f)) != 0)
        b.n += n;
    (void)fclose(f);
    /* An exact copy, so that the address sanitizer sees a read past the end. */
    uint8_t *exact = xmalloc(b.n != 0 ? b.n : 1);
    memcpy(exact, b.p, b.n);
    (void)LLVMFuzzerTestOneInput(exact, b.n);
    free(exact);
    buf_fini(&b);
}

static int replay_dir(const char *dir)
{
    DIR *d = opendir(dir);
    if (d == NULL) {
        perror(dir);
        exit(1);
    }
    int count = 0;
    for (struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
        if (e->d_name[0] == '.')
            continue;
        struct buf path = BUF_INIT;
        buf_printf(&path, "%s/%s", dir, e->d_name);
        buf_append_char(&path, '\0');
        replay_file(path.p);
        buf_fini(&path);
        count++;
    }
    (void)closedir(d);
    return count;
}

int main(int argc, char **argv)
{
    if (LLVMFuzzerInitialize != NULL)
        (void)LLVMFuzzerInitialize(&argc, &argv);
    int count = 0;
    for (int i = 1; i < argc; i++) {
        if (argv[i][0] != '-')
            count += replay_dir(argv[i]);
    }
    printf("%d inputs replayed\n", count);
    if (count == 0)
        fprintf(stderr, "no corpus: nothing was tested\n");
    return count == 0;
}
