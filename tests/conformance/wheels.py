"""Classes and functions of frameworks that are not installed, out of their wheels, without their imports."""

import __future__

import ast
import asyncio
import subprocess
import sys
import zipfile
from functools import cache
from pathlib import Path

import pytest

FOLDER = Path("~/.cache/grm-service/wheels").expanduser()


def defined(wheel, path, *names, **namespace):
    """What a file of a wheel (`name==version`) defines under these names, as a namespace.

    `namespace` stands in for the file's imports. Decorators are left out. Skips where the wheel cannot be
    had.
    """
    source = _source(wheel, path)
    found = [node for node in ast.parse(source).body if getattr(node, "name", None) in names]
    assert [node.name for node in found] == list(names), f"{wheel} has no longer {names} in {path}"
    for node in found:
        node.decorator_list = []
    flags = __future__.annotations.compiler_flag
    namespace["__name__"] = path
    exec(compile(ast.Module(found, []), f"{wheel}/{path}", "exec", flags, dont_inherit=True), namespace)
    return namespace


@cache
def _source(wheel, path):
    with zipfile.ZipFile(_fetched(wheel)) as archive:
        # Wheels with compiled parts have the rest below NAME.data/purelib/.
        inside = next(name for name in archive.namelist() if f"/{name}".endswith(f"/{path}"))
        return archive.read(inside).decode()


@cache
def _fetched(wheel):
    name, _, version = wheel.partition("==")
    if not (found := list(FOLDER.glob(f"{name}-{version}-*.whl"))):
        asked = ["--no-deps", "--only-binary=:all:", "--python-version=3.11", "--dest", str(FOLDER), wheel]
        command = [sys.executable, "-m", "pip", "download", "--quiet", *asked]
        done = subprocess.run(command, capture_output=True, text=True, timeout=250)
        if done.returncode:
            pytest.skip(f"{wheel} cannot be fetched: {done.stderr.strip()[-200:]}")
        found = list(FOLDER.glob(f"{name}-{version}-*.whl"))
    return found[0]


class Hurried:
    """asyncio for a client whose pauses are noted in place of waited for."""

    def __init__(self):
        self.pauses = []

    def __getattr__(self, name):
        return getattr(asyncio, name)

    async def sleep(self, seconds):
        self.pauses.append(seconds)
