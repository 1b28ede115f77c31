#include "tests/support/runfiles.h"

#include <stdio.h>
#include <unistd.h>

static const char workspace[] = ".runfiles/usbip_testbench/";

const char *runfile_find(const char *path, char found[RUNFILE_PATH_SIZE])
{
    char program[RUNFILE_PATH_SIZE];
    ssize_t size = readlink("/proc/self/exe", program, sizeof program - 1);
    if (access(path, R_OK) == 0 || size <= 0)
        return path;
    program[size] = '\0';
    int length = snprintf(found, RUNFILE_PATH_SIZE, "%s%s%s", program, workspace, path);
    return length < RUNFILE_PATH_SIZE && access(found, R_OK) == 0 ? found : path;
}
