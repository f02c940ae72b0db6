#!/usr/bin/env python3
"""Makes what is built here fit for other machines: a wheel that maturin built, or a tarball of the program.

    package.py wheel WHEEL              changes it, and names it after the C library that it needs
    package.py tarball PROGRAM FOLDER   writes FOLDER/emoflow-VERSION-TARGET.tar.gz
    package.py program PROGRAM NEW      writes the program as both have it

On Linux the program is one file that needs no folder of the build: it asks for libtorch by itself (docs/design/startup.md). For
that it must start where there is none. So of its dynamic section the entries are taken out that name libtorch's libraries and
the build's folders, and what it takes from them becomes weak: it may be missing at the start. Needs nothing but Python.
"""

import base64
import hashlib
import io
import os
import platform
import re
import struct
import sys
import tarfile
import zipfile

LIBTORCH = re.compile(rb"lib(torch|c10)[_a-z0-9]*\.so")
SHT_DYNAMIC, SHT_DYNSYM, SHT_VERNEED, SHT_VERSYM = 6, 11, 0x6FFFFFFE, 0x6FFFFFFF
DT_NEEDED, DT_RPATH, DT_RUNPATH = 1, 15, 29
GLOBAL, WEAK = 1, 2


def text(data, at):
    return data[at : data.index(b"\0", at)]


def sections(program):
    """Of each kind of section its offset and size, and the offset of the texts it refers to."""
    (offset,) = struct.unpack_from("<Q", program, 0x28)
    size, count = struct.unpack_from("<HH", program, 0x3A)
    rows = [struct.unpack_from("<IIQQQQIIQQ", program, offset + at * size) for at in range(count)]
    return {row[1]: (row[4], row[5], rows[row[6]][4]) for row in rows if row[6] < count}


def portable(program):
    """The program, able to start without libtorch; and which GNU C library it needs: (2, 34). `None`: it is none of Linux's."""
    if program[:6] != b"\x7fELF\x02\x01":
        return program, None
    program, found = bytearray(program), sections(program)
    at, size, texts = found[SHT_DYNAMIC]
    entries = [struct.unpack_from("<QQ", program, at + 16 * i) for i in range(size // 16)]
    needed = [text(program, texts + value) for tag, value in entries if tag == DT_NEEDED]
    if not any(LIBTORCH.fullmatch(name) for name in needed):
        sys.exit("error: the program is not linked with libtorch, or was changed already")

    def stays(tag, value):
        return tag not in (DT_RPATH, DT_RUNPATH) and not (
            tag == DT_NEEDED and LIBTORCH.fullmatch(text(program, texts + value))
        )

    kept = [entry for entry in entries if stays(*entry)]
    for i, entry in enumerate(kept + [(0, 0)] * (len(entries) - len(kept))):
        struct.pack_into("<QQ", program, at + 16 * i, *entry)

    at, size, _ = found[SHT_DYNSYM]
    versions = found[SHT_VERSYM][0]
    for i in range(size // 24):
        info, _, section = struct.unpack_from("<BBH", program, at + 24 * i + 4)
        (version,) = struct.unpack_from("<H", program, versions + 2 * i)
        # libtorch's symbols have no versions, unlike those of the system's libraries.
        if section == 0 and info >> 4 == GLOBAL and version & 0x7FFF <= 1:
            program[at + 24 * i + 4] = WEAK << 4 | info & 15
    return bytes(program), c_library(program, found[SHT_VERNEED])


def c_library(program, section):
    at, size, texts = section
    newest, end = (2, 17), at + size
    while at < end:
        _, count, _, first, following = struct.unpack_from("<HHIII", program, at)
        entry = at + first
        for _ in range(count):
            _, _, _, name, step = struct.unpack_from("<IHHII", program, entry)
            version = re.fullmatch(rb"GLIBC_(\d+)\.(\d+)(\.\d+)?", text(program, texts + name))
            if version:
                newest = max(newest, (int(version[1]), int(version[2])))
            entry += step
        if following == 0:
            break
        at += following
    return newest


def wheel(path):
    with zipfile.ZipFile(path) as old:
        members = [(info, old.read(info)) for info in old.infolist()]
    tag = None
    for i, (info, data) in enumerate(members):
        if info.filename.endswith(".data/scripts/emoflow"):
            data, glibc = portable(data)
            members[i] = (info, data)
            if glibc:
                tag = "manylinux_{}_{}_{}".format(*glibc, platform.machine())
    folder, name = os.path.split(path)
    if tag:
        name = re.sub(r"-(many)?linux_[^-]*\.whl$", f"-{tag}.whl", name)
        for i, (info, data) in enumerate(members):
            if info.filename.endswith(".dist-info/WHEEL"):
                members[i] = (info, re.sub(rb"(?m)^(Tag: .*-)(many)?linux_\S*$", rb"\g<1>" + tag.encode(), data))
    record = next(info for info, _ in members if info.filename.endswith(".dist-info/RECORD"))
    lines = []
    for info, data in members:
        if info is not record and not info.is_dir():
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            lines.append(f"{info.filename},sha256={digest},{len(data)}\n")
    lines.append(f"{record.filename},,\n")
    new = os.path.join(folder, name)
    with zipfile.ZipFile(path + ".new", "w", zipfile.ZIP_DEFLATED) as out:
        for info, data in members:
            out.writestr(info, "".join(lines).encode() if info is record else data, zipfile.ZIP_DEFLATED)
    os.remove(path)
    os.replace(path + ".new", new)
    return new


def target():
    machine = {"arm64": "aarch64"}.get(platform.machine(), platform.machine())
    return f"{machine}-{'apple-darwin' if sys.platform == 'darwin' else 'unknown-linux-gnu'}"


def tarball(program, folder):
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    with open(os.path.join(root, "Cargo.toml")) as file:
        version = re.search(r'(?m)^version = "(.*)"', file.read())[1]
    name = f"emoflow-{version}-{target()}"
    with open(program, "rb") as file:
        data, _ = portable(file.read())
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, name + ".tar.gz")
    with tarfile.open(path, "w:gz") as out:
        files = {"emoflow": (data, 0o755)}
        for other in ["LICENSE", "README.md", "CHANGELOG.md"]:
            with open(os.path.join(root, other), "rb") as file:
                files[other] = (file.read(), 0o644)
        for file, (data, mode) in files.items():
            info = tarfile.TarInfo(f"{name}/{file}")
            info.size, info.mode = len(data), mode
            out.addfile(info, io.BytesIO(data))
    return path


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] == "wheel":
        print(wheel(sys.argv[2]))
    elif len(sys.argv) == 4 and sys.argv[1] == "tarball":
        print(tarball(sys.argv[2], sys.argv[3]))
    elif len(sys.argv) == 4 and sys.argv[1] == "program":
        with open(sys.argv[2], "rb") as old, open(sys.argv[3], "wb") as new:
            new.write(portable(old.read())[0])
        os.chmod(sys.argv[3], 0o755)
    else:
        sys.exit(__doc__)
