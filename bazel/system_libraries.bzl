"""The libraries that the system provides, as @libuv, @liburing, @lua, @jansson, @libpcap, @zlib and @cunit.

A repository is fetched only when a target that needs it is built, so a missing library is an
error only for those.
"""

def _pkg_config_impl(repository_ctx):
    name = repository_ctx.attr.library
    remedy = "Install it with: apt-get install " + repository_ctx.attr.package

    pkg_config = repository_ctx.which("pkg-config")
    if not pkg_config:
        fail("pkg-config is missing, and finds %s. Install it with: apt-get install pkg-config" % name)

    # Distributions name the same module differently: the first one known here is it.
    flags = None
    for module in repository_ctx.attr.modules:
        result = repository_ctx.execute([pkg_config, "--cflags", "--libs", module])
        if result.return_code == 0:
            flags = [flag for flag in result.stdout.strip().split(" ") if flag]
            break
    if flags == None:
        fail("%s is missing: pkg-config knows none of %s. %s" % (
            name,
            ", ".join(repository_ctx.attr.modules),
            remedy,
        ))

    includes = []
    defines = []
    linkopts = []
    for flag in flags:
        if flag.startswith("-I"):
            # Bazel wants headers inside of the repository. The compiler finds /usr/include by
            # itself, and some packages name folders that do not exist.
            folder = repository_ctx.path(flag[2:])
            if folder.exists and str(folder) != "/usr/include":
                link = "include%d" % len(includes)
                repository_ctx.symlink(folder, link)
                includes.append(link)
        elif flag.startswith("-D"):
            defines.append(flag[2:])
        else:
            linkopts.append(flag)

    repository_ctx.file("BUILD", """\
load("@rules_cc//cc:cc_library.bzl", "cc_library")

cc_library(
    name = %r,
    hdrs = glob(["include*/**/*.h"], allow_empty = True),
    defines = %r,
    includes = %r,
    linkopts = %r,
    # Found on the machine that builds: of no use when building for another system.
    target_compatible_with = ["@platforms//os:linux"],
    visibility = ["//visibility:public"],
)
""" % (name, defines, includes, linkopts), executable = False)

_pkg_config = repository_rule(
    implementation = _pkg_config_impl,
    doc = "A cc_library over what pkg-config says about a library of the system.",
    attrs = {
        "library": attr.string(mandatory = True, doc = "The name of the cc_library."),
        "modules": attr.string_list(mandatory = True, doc = "Names for pkg-config, tried in turn."),
        "package": attr.string(mandatory = True, doc = "The Debian package that provides it."),
    },
    configure = True,
    environ = ["PKG_CONFIG_PATH"],
    local = True,
)

def system_libraries():
    _pkg_config(
        name = "libuv",
        library = "libuv",
        modules = ["libuv"],
        package = "libuv1-dev",
    )
    _pkg_config(
        name = "liburing",
        library = "liburing",
        modules = ["liburing"],
        package = "liburing-dev",
    )
    _pkg_config(
        name = "lua",
        library = "lua",
        modules = ["lua5.4", "lua54", "lua-5.4", "lua >= 5.4"],
        package = "liblua5.4-dev",
    )
    _pkg_config(
        name = "jansson",
        library = "jansson",
        modules = ["jansson"],
        package = "libjansson-dev",
    )
    _pkg_config(
        name = "libpcap",
        library = "libpcap",
        modules = ["libpcap"],
        package = "libpcap-dev",
    )
    _pkg_config(
        name = "zlib",
        library = "zlib",
        modules = ["zlib"],
        package = "zlib1g-dev",
    )
    _pkg_config(
        name = "cunit",
        library = "cunit",
        modules = ["cunit"],
        package = "libcunit1-dev",
    )
