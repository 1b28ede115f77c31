"""A real Linux as the other end of a test: a kernel and usbip from Debian, to be booted in QEMU.

`linux_guest()` in WORKSPACE gives

    @linux_guest//:qemu       this machine's emulator
    @linux_guest//:vmlinux    the kernel
    @linux_guest//:initramfs  busybox, kernel modules, usbip and usbipd

Packages are fetched by apt without root, about 75 MB, when the first target that needs them is
built. Where that is impossible these three are incompatible with the platform, and with them all
that depends on them; the reason is printed. `bazel sync --only=linux_guest` tries again, and
also brings the kernel of the day.
"""

def _unavailable(repository_ctx, reason):
    # What depends on incompatible targets is incompatible as well. (In Bazel 4 a filegroup cannot be.)
    repository_ctx.file("BUILD", """\
print({message})

constraint_setting(name = "guest")

constraint_value(
    name = "unavailable",
    constraint_setting = ":guest",
)

[genrule(
    name = name,
    outs = [name + ".missing"],
    cmd = "false",
    target_compatible_with = [":unavailable"],
    visibility = ["//visibility:public"],
) for name in ["initramfs", "qemu", "vmlinux"]]
""".format(message = repr(
        "SKIPPED: tests in a Linux guest cannot run here. {reason}. To try again: bazel sync --only={name}".format(
            name = repository_ctx.name,
            reason = reason,
        ),
    )))

def _linux_guest_impl(repository_ctx):
    # Asked for here, so that a change of the scripts runs this rule again.
    script = repository_ctx.path(Label("//bazel/guest:build_guest.py"))
    repository_ctx.path(Label("//bazel/guest:newcpio.py"))

    qemu = repository_ctx.which("qemu-system-x86_64")
    if not qemu:
        _unavailable(repository_ctx, "There is no qemu-system-x86_64 (apt-get install qemu-system-x86)")
        return
    python = repository_ctx.which("python3")
    if not python:
        _unavailable(repository_ctx, "There is no python3 (apt-get install python3)")
        return

    repository_ctx.report_progress("Making the Linux guest from Debian packages")
    result = repository_ctx.execute([python, "-B", script, repository_ctx.path(".")], timeout = 1200)
    if result.return_code != 0:
        reason = result.stderr.strip().split("\n")[-1]
        _unavailable(repository_ctx, "The guest could not be made: " + reason)
        return

    repository_ctx.symlink(qemu, "qemu")
    repository_ctx.file("BUILD", """\
exports_files(
    ["initramfs", "qemu", "versions", "vmlinux"],
    visibility = ["//visibility:public"],
)
""")

_linux_guest = repository_rule(
    implementation = _linux_guest_impl,
    doc = "Fetches a Linux guest, or says why there is none. See the top of this file.",
)

def linux_guest():
    _linux_guest(name = "linux_guest")
