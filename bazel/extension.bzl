"""system_libraries() for MODULE.bazel; apart, because Bazel 4 knows no module_extension."""

load(":system_libraries.bzl", "system_libraries")

def _system_libraries_impl(_module_ctx):
    system_libraries()

system_libraries_extension = module_extension(implementation = _system_libraries_impl)
