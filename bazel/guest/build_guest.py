#!/usr/bin/env python3
"""Makes a bootable Linux guest out of Debian packages, without root.

    build_guest.py OUTPUT_DIRECTORY

writes there
    vmlinux     the kernel of linux-image-amd64 as an ELF file. QEMU enters it directly (PVH), which
                saves the decompression that a bzImage does in the guest: half of the boot time
                when the processor is emulated.
    initramfs   cpio archive: busybox, the kernel modules listed below with all they depend on,
                usbip and usbipd with their libraries. It has no /init; who boots it appends one.
    versions    the packages and versions it was made from

Packages come through apt with whatever sources and proxies this machine is configured for, and apt
checks them against its signed lists. What is installed on this machine does not matter. Fails with
one line on stderr that says what is missing.
"""

import glob
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile

import newcpio

# All that USB/IP tests have use for. Dependencies are found in the modules themselves.
MODULES = """
    virtio_pci virtio_net
    uhci_hcd
    usbip_core usbip_host usbip_vudc vhci_hcd usbmon
    dummy_hcd libcomposite g_serial usb_f_acm usb_f_serial
    cdc_acm usbserial ftdi_sio cp210x ch341 pl2303
""".split()

# Their dependencies are fetched as well. The kernel is not here: of its dependencies (a boot loader
# and so on) none is wanted.
PACKAGES = ["busybox-static", "usbip"]
PROGRAMS = ["usr/sbin/usbip", "usr/sbin/usbipd"]


class Failure(Exception):
    pass


def run(*command, **options):
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            env=dict(os.environ, LC_ALL="C"), **options)
    if result.returncode != 0:
        lines = result.stderr.decode(errors="replace").strip().splitlines()
        raise Failure("%s %s: %s" % (command[0], command[-1],
                                     lines[-1] if lines else "exit status %d" % result.returncode))
    return result.stdout.decode()


def fetch(directory, options):
    """Downloads all packages into directory and returns the name of the kernel's package."""
    # linux-image-amd64 is empty and depends on the kernel of the day.
    names = re.findall(r"^  Depends: (linux-image-\d\S*)$",
                       run("apt-cache", *options, "depends", "linux-image-amd64"), re.M)
    if not names:
        raise Failure("apt-cache knows no kernel behind linux-image-amd64")
    plan = run("apt-get", *options, "--simulate", "--no-install-recommends", "install", *PACKAGES)
    wanted = ["%s=%s" % pair for pair in re.findall(r"^Inst (\S+) \((\S+)", plan, re.M)]
    run("apt-get", *options, "--quiet", "download", names[0], *wanted, cwd=directory)
    return names[0]


def fetch_packages(work):
    directory = os.path.join(work, "packages")
    lists = os.path.join(work, "lists")
    status = os.path.join(work, "status")
    os.makedirs(directory)
    os.makedirs(os.path.join(lists, "partial"))
    open(status, "w").close()
    options = [
        "-o", "Dir::State::status=" + status,  # as if nothing were installed
        "-o", "Dir::Cache=" + os.path.join(work, "cache"),
        "-o", "Debug::NoLocking=1",            # locks belong to root, and nothing shared is written
        "-o", "APT::Sandbox::User=",           # as root, do not change to a user who cannot write here
        "-o", "Acquire::Retries=3",
    ]
    try:
        return directory, fetch(directory, options)
    except Failure:
        # This machine's lists are absent, or so old that what they name is gone from the mirror.
        # Get lists of our own; a source that fails here may be one that we do not need.
        options += ["-o", "Dir::State::lists=" + lists]
        try:
            update = ""
            run("apt-get", *options, "--quiet", "update")
        except Failure as failure:
            update = "%s; " % failure
        try:
            return directory, fetch(directory, options)
        except Failure as failure:
            raise Failure("%s%s" % (update, failure)) from None


def decompress(data):
    """Undoes whichever compression the data begins with. What follows the compressed part is ignored."""
    if data.startswith(b"\xfd7zXZ\0"):
        import lzma
        return lzma.LZMADecompressor().decompress(data)
    if data.startswith(b"\x1f\x8b"):
        import zlib
        return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(data)
    if data.startswith(b"\x28\xb5\x2f\xfd"):
        if shutil.which("zstd") is None:
            raise Failure("this kernel is compressed with zstd, which is not installed "
                          "(apt-get install zstd)")
        # The data ends in the middle of a frame as zstd sees it, hence no check of its status.
        return subprocess.run(["zstd", "-dcq"], input=data, stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, check=False).stdout
    if data.startswith(b"\x7fELF"):
        return data
    raise Failure("unknown compression, data begins with " + data[:6].hex())


def read_vmlinux(bzimage):
    """Cuts the ELF kernel out of a bzImage (Linux documentation, "The Linux/x86 Boot Protocol")."""
    with open(bzimage, "rb") as stream:
        image = stream.read()
    if image[0x202:0x206] != b"HdrS":
        raise Failure("%s is no bzImage" % bzimage)
    setup_sectors = image[0x1F1]
    payload_offset, payload_length = struct.unpack_from("<II", image, 0x248)
    start = (setup_sectors + 1) * 512 + payload_offset
    vmlinux = decompress(image[start:start + payload_length])
    if not vmlinux.startswith(b"\x7fELF"):
        raise Failure("the payload of %s is no ELF file" % bzimage)
    return vmlinux


def module_closure(root, names):
    """Maps path in the guest to contents, for the modules named and all that they depend on."""
    found = {}
    for directory, _, files in os.walk(root):
        for name in files:
            match = re.fullmatch(r"(.+)\.ko(\.xz|\.gz|\.zst)?", name)
            if match:
                found[match[1].replace("-", "_")] = os.path.join(directory, name)
    result = {}
    pending = list(names)
    seen = set()
    while pending:
        name = pending.pop()
        if name in seen:
            continue
        seen.add(name)
        if name not in found:
            raise Failure("this kernel has no module " + name)
        with open(found[name], "rb") as stream:
            module = decompress(stream.read())
        # .modinfo is a section of NUL-terminated strings; "depends=" occurs in it once.
        depends = re.search(rb"\0depends=([^\0]*)\0", module)
        pending += [each.replace("-", "_") for each in depends[1].decode().split(",") if each]
        path = os.path.relpath(found[name], root)
        result[re.sub(r"\.ko\..*", ".ko", path)] = module
    return result


def library_closure(root, program):
    """Maps path in the guest to path here, for the libraries of a program; the loader is one of them."""
    loaders = glob.glob(os.path.join(root, "**/x86_64-linux-gnu/ld-linux-x86-64.so.2"), recursive=True)
    folders = [os.path.join(root, each) for each in ("lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu")]
    listing = run(loaders[0], "--library-path", ":".join(folders), "--list", os.path.join(root, program))
    result = {"/lib64/ld-linux-x86-64.so.2": loaders[0]}
    for name, path in re.findall(r"^\s*(\S+) => (\S+) \(0x", listing, re.M):
        if not path.startswith(root):
            raise Failure("%s needs %s, which no package brought" % (program, name))
        if not name.startswith("ld-linux"):
            result["/lib/x86_64-linux-gnu/" + name] = path
    return result


def build(output, work):
    packages, kernel_package = fetch_packages(work)
    root = os.path.join(work, "root")
    kernel = os.path.join(work, "kernel")
    for package in sorted(os.listdir(packages)):
        target = kernel if package.startswith(kernel_package + "_") else root
        run("dpkg-deb", "--extract", os.path.join(packages, package), target)

    vmlinuz, = glob.glob(os.path.join(kernel, "boot/vmlinuz-*"))
    release = os.path.basename(vmlinuz)[len("vmlinuz-"):]
    with open(os.path.join(output, "vmlinux"), "wb") as stream:
        stream.write(read_vmlinux(vmlinuz))

    modules, = (glob.glob(os.path.join(kernel, "lib/modules", release))
                or glob.glob(os.path.join(kernel, "usr/lib/modules", release)))
    busybox, = (glob.glob(os.path.join(root, "bin/busybox"))
                or glob.glob(os.path.join(root, "usr/bin/busybox")))

    # modprobe in the guest reads what depmod found in the modules that are there.
    wanted = os.path.join(work, "initramfs/lib/modules", release)
    for path, module in module_closure(modules, MODULES).items():
        os.makedirs(os.path.dirname(os.path.join(wanted, path)), exist_ok=True)
        with open(os.path.join(wanted, path), "wb") as stream:
            stream.write(module)
    for name in ("modules.order", "modules.builtin"):
        shutil.copy(os.path.join(modules, name), wanted)
    run(busybox, "depmod", "-b", os.path.join(work, "initramfs"), release)

    files = {"/bin/busybox": busybox}
    for directory, _, names in os.walk(wanted):
        for name in names:
            path = os.path.join(directory, name)
            files["/lib/modules/%s/%s" % (release, os.path.relpath(path, wanted))] = path
    for program in PROGRAMS:
        files["/" + program] = os.path.join(root, program)
        files.update(library_closure(root, program))
    usb_ids = os.path.join(root, "usr/share/misc/usb.ids")
    if os.path.exists(usb_ids):
        files["/usr/share/misc/usb.ids"] = os.path.realpath(usb_ids)

    with open(os.path.join(output, "initramfs"), "wb") as stream:
        archive = newcpio.Archive(stream)
        for directory in ("/dev", "/proc", "/sys", "/run", "/tmp"):
            archive.directory(directory)
        # The shell of Debian's busybox finds the other programs in itself; these are for the rest.
        for path in ("/bin/sh", "/sbin/modprobe"):
            archive.symlink(path, "/bin/busybox")
        for path in sorted(files):
            archive.copy(path, files[path])
        archive.close()

    with open(os.path.join(output, "versions"), "w") as stream:
        stream.write("".join(name + "\n" for name in sorted(os.listdir(packages))))


def main(arguments):
    if len(arguments) != 1:
        sys.exit(__doc__)
    try:
        for program in ("apt-get", "dpkg-deb"):
            if shutil.which(program) is None:
                raise Failure("there is no %s: the guest is made of Debian packages" % program)
        architecture = run("dpkg", "--print-architecture").strip()
        if architecture != "amd64":
            raise Failure("the guest is made of amd64 packages, this machine is " + architecture)
        with tempfile.TemporaryDirectory(dir=arguments[0]) as work:
            build(arguments[0], work)
    except Failure as failure:
        sys.exit(str(failure))


if __name__ == "__main__":
    main(sys.argv[1:])
