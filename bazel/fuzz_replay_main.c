/*
 * Runs each file named on the command line through a fuzz target, once. libFuzzer would bring its
 * own main(); this one needs neither clang nor a sanitizer.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        perror(path);
        return -1;
    }

    uint8_t *data = NULL;
    size_t size = 0;
    size_t capacity = 0;
    do {
        if (size == capacity) {
            capacity = capacity * 2 + 4096;
            uint8_t *larger = realloc(data, capacity);
            if (larger == NULL) {
                perror(path);
                goto fail;
            }
            data = larger;
        }
        size += fread(data + size, 1, capacity - size, file);
    } while (!feof(file) && !ferror(file));
    if (ferror(file)) {
        perror(path);
        goto fail;
    }
    fclose(file);

    /*
     * A block of exactly this size lets the address sanitizer see a read past the end. malloc(0)
     * may be NULL, which libFuzzer never passes.
     */
    uint8_t *exact = malloc(size > 0 ? size : 1);
    if (exact == NULL) {
        perror(path);
        free(data);
        return -1;
    }
    memcpy(exact, data, size);
    free(data);

    printf("%s: %zu bytes\n", path, size);
    fflush(stdout); /* so that the last line names the file that crashed */
    LLVMFuzzerTestOneInput(exact, size);
    free(exact);
    return 0;

fail:
    fclose(file);
    free(data);
    return -1;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "%s: no files given, so nothing would be tested\n", argv[0]);
        return EXIT_FAILURE;
    }
    for (int i = 1; i < argc; i++) {
        if (replay(argv[i]) != 0) {
            return EXIT_FAILURE;
        }
    }
    return EXIT_SUCCESS;
}
