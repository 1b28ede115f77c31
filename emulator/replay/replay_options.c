/* The words of the command line and of scripts, and which files are captures. */
#include <string.h>
#include <zlib.h>

#include "emulator/replay/replay.h"

static bool find_word(const char *word, const char *const words[], unsigned count, unsigned *index)
{
    for (unsigned i = 0; i < count; i++) {
        if (strcmp(words[i], word) == 0) {
            *index = i;
            return true;
        }
    }
    return false;
}

bool usbip_replay_parse_mode(const char *word, enum usbip_replay_mode *mode)
{
    static const char *const words[] = {"gated", "strict", "timed", "free", "step"};
    unsigned index;
    bool found = find_word(word, words, 5, &index);
    if (found)
        *mode = (enum usbip_replay_mode)index;
    return found;
}

bool usbip_replay_parse_end(const char *word, enum usbip_replay_end *end)
{
    static const char *const words[] = {"hold", "loop", "stall", "disconnect"};
    unsigned index;
    bool found = find_word(word, words, 4, &index);
    if (found)
        *end = (enum usbip_replay_end)index;
    return found;
}

bool usbip_replay_parse_import(const char *word, enum usbip_replay_import *import)
{
    static const char *const words[] = {"restart", "continue"};
    unsigned index;
    bool found = find_word(word, words, 2, &index);
    if (found)
        *import = (enum usbip_replay_import)index;
    return found;
}

bool usbip_replay_parse_match(const char *word, enum usbip_replay_match *match)
{
    static const char *const words[] = {"exact", "setup", "any"};
    unsigned index;
    bool found = find_word(word, words, 3, &index);
    if (found)
        *match = (enum usbip_replay_match)index;
    return found;
}

bool usbip_replay_parse_errors(const char *word, bool *skip)
{
    static const char *const words[] = {"replay", "skip"};
    unsigned index;
    bool found = find_word(word, words, 2, &index);
    if (found)
        *skip = index == 1;
    return found;
}

bool usbip_replay_is_capture(const char *path)
{
    static const uint8_t magics[][4] = {
        {0xa1, 0xb2, 0xc3, 0xd4}, {0xd4, 0xc3, 0xb2, 0xa1}, /* pcap */
        {0xa1, 0xb2, 0x3c, 0x4d}, {0x4d, 0x3c, 0xb2, 0xa1}, /* with nanoseconds */
        {0xa1, 0xb2, 0xcd, 0x34}, {0x34, 0xcd, 0xb2, 0xa1}, /* Kuznetzov's */
        {0x0a, 0x0d, 0x0d, 0x0a},                           /* pcapng */
    };
    uint8_t bytes[4] = {0};
    gzFile file = gzopen(path, "rb");
    bool known = false;
    if (!file)
        return false;
    if (gzread(file, bytes, sizeof bytes) == (int)sizeof bytes) {
        for (size_t i = 0; i < sizeof magics / sizeof magics[0]; i++)
            known |= memcmp(bytes, magics[i], sizeof bytes) == 0;
    }
    gzclose(file);
    return known;
}
