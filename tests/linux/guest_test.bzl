"""Tests against a real Linux in a guest."""

load("@rules_shell//shell:sh_test.bzl", "sh_test")

def guest_test(name, src, scenario, data = [], env = {}, tags = [], **kwargs):
    """A test in two halves: a scenario that runs in the guest, and a script on the host.

    Incompatible, and so skipped, where there is no guest: see @linux_guest.

    Args:
      name: of the test.
      src: bash script that runs on the host and begins with `. "$GUEST_LIBRARY"`, see guest.sh.
      scenario: shell script that the guest runs, see init.sh.
      data: what the script needs beyond that.
      env: as in sh_test; `$(rootpath ...)` is how the script finds its data.
      tags: besides "guest".
      **kwargs: as in sh_test.
    """
    files = {
        "GUEST_CPIO": "//bazel/guest:newcpio.py",
        "GUEST_INIT": "//tests/linux:init.sh",
        "GUEST_INITRAMFS": "@linux_guest//:initramfs",
        "GUEST_LIBRARY": "//tests/linux:guest.sh",
        "GUEST_QEMU": "@linux_guest//:qemu",
        "GUEST_SCENARIO": scenario,
        "GUEST_TOOL": "//tests/linux:guest_tool",
        "GUEST_VMLINUX": "@linux_guest//:vmlinux",
    }
    all_env = {variable: "$(rootpath %s)" % label for variable, label in files.items()}
    all_env.update(env)
    sh_test(
        name = name,
        # Seconds, but emulated ones: the limit is for a machine that has much else to do.
        size = "medium",
        srcs = [src],
        data = data + files.values(),
        env = all_env,
        tags = ["guest"] + tags,
        **kwargs
    )
