"""The repositories of WORKSPACE for MODULE.bazel; apart, because Bazel 4 knows no module_extension."""

load("//bazel/guest:guest.bzl", "linux_guest")
load(":system_libraries.bzl", "system_libraries")

def _repositories_impl(_module_ctx):
    system_libraries()
    linux_guest()

repositories_extension = module_extension(implementation = _repositories_impl)
