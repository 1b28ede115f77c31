"""What the BUILD files of this project share."""

load("@rules_cc//cc:cc_binary.bzl", _cc_binary = "cc_binary")
load("@rules_cc//cc:cc_test.bzl", _cc_test = "cc_test")

# For every target of ours: `copts = COPTS`. Plain C11 hides what POSIX adds to the system's headers;
# whoever needs it (also for <uv.h> and <pcap/pcap.h>) says `local_defines = ["_GNU_SOURCE"]`.
COPTS = [
    "-std=c11",
    "-Wall",
    "-Wextra",
    "-Wconversion",
    "-Wshadow",
    "-Werror",
] + select({
    "//bazel:lto": [
        "-flto=auto",
        "-ffat-lto-objects",
    ],
    "//conditions:default": [],
})

def program(name, linkopts = [], **kwargs):
    """A cc_binary that users run: optimized as a whole, for speed (docs/performance.md)."""
    _cc_binary(
        name = name,
        linkopts = linkopts + select({
            "//bazel:lto": [
                "-flto=auto",
                "-O2",
            ],
            "//conditions:default": [],
        }),
        **kwargs
    )

# Objects are good for both kinds of linking. This one is quick, and --wrap works with it.
PLAIN_LINKOPTS = select({
    "//bazel:lto": ["-fno-lto"],
    "//conditions:default": [],
})

def cc_binary(name, linkopts = [], **kwargs):
    _cc_binary(name = name, linkopts = linkopts + PLAIN_LINKOPTS, **kwargs)

def cc_test(name, linkopts = [], **kwargs):
    _cc_test(name = name, linkopts = linkopts + PLAIN_LINKOPTS, **kwargs)

def unit_test(name, srcs, deps = [], size = "small", **kwargs):
    """A cc_test with CUnit, our warnings and tests/support/testing.h; srcs bring their own main()."""
    cc_test(
        name = name,
        size = size,
        srcs = srcs,
        copts = COPTS,
        deps = deps + ["//tests/support:testing"],
        **kwargs
    )

def sources():
    """The sources of a package, for tests that build the emulator in other ways."""
    native.filegroup(
        name = "sources",
        srcs = native.glob([
            "*.c",
            "*.h",
        ]),
        visibility = ["//tests:__subpackages__"],
    )

def fuzz_target(name, srcs, corpus, deps = [], local_defines = []):
    """A fuzzer, and a test that replays its corpus.

    srcs define LLVMFuzzerTestOneInput(). NAME is the libFuzzer binary, which only
    `bazel build --config=fuzz` can link. NAME_replay is a test that runs every file of the corpus
    through the same function, with any compiler and any sanitizer.

    Args:
      name: of the fuzzer.
      srcs: its sources.
      corpus: the files to replay; a fuzzer without any fails its test.
      deps: what it fuzzes.
      local_defines: as in cc_library.
    """
    cc_binary(
        name = name,
        testonly = True,
        srcs = srcs,
        copts = COPTS,
        linkopts = ["-fsanitize=fuzzer"],
        local_defines = local_defines,
        tags = ["manual"],
        deps = deps,
    )
    cc_test(
        name = name + "_replay",
        size = "small",
        srcs = srcs + ["//bazel:fuzz_replay_main.c"],
        args = ["$(rootpaths %s)" % file for file in corpus],
        copts = COPTS,
        data = corpus,
        local_defines = local_defines,
        deps = deps,
    )
