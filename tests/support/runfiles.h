/* Files that a program of ours was built with: found by `bazel run` and `bazel test` in the current
 * folder, and beside the program when it is started by its path. */
#ifndef TESTS_SUPPORT_RUNFILES_H
#define TESTS_SUPPORT_RUNFILES_H

enum { RUNFILE_PATH_SIZE = 1024 };

/* path is relative to the workspace. Returns `found`, or path as it is when there is no such file.
 */
const char *runfile_find(const char *path, char found[RUNFILE_PATH_SIZE]);

#endif
