"""Stand-ins for the repositories that Bazel 4 would fetch from the network.

Bazel loads rules_java for every C build and remote_coverage_tools for every test. BUILD files
here load their rules from rules_cc and rules_shell, as today's Bazel wants it; in Bazel 4 these
rules are still built in, so the stand-ins only hand them back under the expected labels.
"""

def _text_repository_impl(repository_ctx):
    for path, text in repository_ctx.attr.files.items():
        repository_ctx.file(path, text, executable = False)
    for path, label in repository_ctx.attr.links.items():
        repository_ctx.symlink(Label(label), path)

_text_repository = repository_rule(
    implementation = _text_repository_impl,
    doc = "A repository of files whose text is given here, and of links to files of this one.",
    attrs = {
        "files": attr.string_dict(doc = "Path to text."),
        "links": attr.string_dict(doc = "Path to the label of the file it stands for."),
    },
)

def _native_rules(folder, rules):
    """One FOLDER/RULE.bzl for each rule, and FOLDER/defs.bzl with all of them."""
    files = {"BUILD": "", folder + "/BUILD": ""}
    for rule in rules:
        files["%s/%s.bzl" % (folder, rule)] = "%s = native.%s\n" % (rule, rule)
    files[folder + "/defs.bzl"] = "".join(["%s = native.%s\n" % (rule, rule) for rule in rules])
    return files

def _reexport(label, names):
    loads = ", ".join(['_%s = "%s"' % (name, name) for name in names])
    return 'load("%s", %s)\n' % (label, loads) + "".join(["%s = _%s\n" % (name, name) for name in names])

_COVERAGE_BUILD = """\
package(default_visibility = ["//visibility:public"])

# Bazel asks for two tools: one per test, one for the combined report. One script does both.
sh_binary(name = "lcov_merger", srcs = ["merge_coverage.py"])

sh_binary(name = "coverage_report_generator", srcs = ["merge_coverage.py"])
"""

def offline_rules():
    cc = _native_rules("cc", [
        "cc_binary",
        "cc_import",
        "cc_library",
        "cc_proto_library",
        "cc_test",
        "cc_toolchain",
        "cc_toolchain_suite",
        "objc_library",
    ])
    cc["cc/action_names.bzl"] = _reexport(
        "@bazel_tools//tools/build_defs/cc:action_names.bzl",
        ["ACTION_NAMES"],
    )
    cc["cc/cc_toolchain_config_lib.bzl"] = _reexport(
        "@bazel_tools//tools/cpp:cc_toolchain_config_lib.bzl",
        [
            "action_config",
            "artifact_name_pattern",
            "env_entry",
            "env_set",
            "feature",
            "feature_set",
            "flag_group",
            "flag_set",
            "tool",
            "tool_path",
            "variable_with_value",
            "with_feature_set",
        ],
    )
    _text_repository(name = "rules_cc", files = cc)
    _text_repository(name = "rules_java", files = _native_rules("java", [
        "java_binary",
        "java_import",
        "java_library",
        "java_runtime",
        "java_toolchain",
    ]))
    _text_repository(name = "rules_python", files = _native_rules("python", [
        "py_binary",
        "py_library",
        "py_test",
    ]))
    _text_repository(name = "rules_shell", files = _native_rules("shell", [
        "sh_binary",
        "sh_library",
        "sh_test",
    ]))
    _text_repository(
        name = "remote_coverage_tools",
        files = {"BUILD": _COVERAGE_BUILD},
        links = {"merge_coverage.py": "//bazel:merge_coverage.py"},
    )
