#include <stdlib.h>
#include <string.h>

#include "emulator/capture/capture_internal.h"

enum {
    FIRST_CHUNK_SIZE = 4 << 10,
    LAST_CHUNK_SIZE = 1 << 20,
};

/* The chunk that is being filled comes first. */
struct capture_arena {
    struct capture_arena *next;
    size_t size, used;
    uint8_t bytes[];
};

uint8_t *capture_arena_copy(struct capture_arena **arena, const uint8_t *bytes, size_t size)
{
    struct capture_arena *chunk = *arena;
    if (!chunk || chunk->size - chunk->used < size) {
        size_t chunk_size = chunk ? 2 * chunk->size : FIRST_CHUNK_SIZE;
        if (chunk_size > LAST_CHUNK_SIZE)
            chunk_size = LAST_CHUNK_SIZE;
        if (chunk_size < size)
            chunk_size = size;
        chunk = malloc(sizeof *chunk + chunk_size);
        if (!chunk)
            return NULL;
        *chunk = (struct capture_arena){.next = *arena, .size = chunk_size};
        *arena = chunk;
    }
    uint8_t *copy = chunk->bytes + chunk->used;
    memcpy(copy, bytes, size);
    chunk->used += size;
    return copy;
}

void capture_arena_free(struct capture_arena *arena)
{
    while (arena) {
        struct capture_arena *next = arena->next;
        free(arena);
        arena = next;
    }
}
