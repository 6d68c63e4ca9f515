"""Load classes and functions of frameworks from their wheels, without installing or importing them."""

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
    """Return a namespace with the named definitions from a file of a wheel (`name==version`).

    `namespace` stands in for the file's imports; decorators are removed. Skips the test if the wheel cannot
    be downloaded.
    """
    source = _source(wheel, path)
    nodes = [node for node in ast.parse(source).body if getattr(node, "name", None) in names]
    assert [node.name for node in nodes] == list(names), f"{wheel} no longer has {names} in {path}"
    for node in nodes:
        node.decorator_list = []
    flags = __future__.annotations.compiler_flag
    namespace["__name__"] = path
    exec(compile(ast.Module(nodes, []), f"{wheel}/{path}", "exec", flags, dont_inherit=True), namespace)
    return namespace


@cache
def _source(wheel, path):
    with zipfile.ZipFile(_download(wheel)) as archive:
        # Wheels with compiled parts have their Python files in NAME.data/purelib/.
        inside = next(name for name in archive.namelist() if f"/{name}".endswith(f"/{path}"))
        return archive.read(inside).decode()


@cache
def _download(wheel):
    name, _, version = wheel.partition("==")
    if not (wheels := list(FOLDER.glob(f"{name}-{version}-*.whl"))):
        options = ["--no-deps", "--only-binary=:all:", "--python-version=3.11", "--dest", str(FOLDER), wheel]
        command = [sys.executable, "-m", "pip", "download", "--quiet", *options]
        done = subprocess.run(command, capture_output=True, text=True, timeout=250)
        if done.returncode:
            pytest.skip(f"{wheel} cannot be downloaded: {done.stderr.strip()[-200:]}")
        wheels = list(FOLDER.glob(f"{name}-{version}-*.whl"))
    return wheels[0]


class FastClock:
    """A stand-in for asyncio whose `sleep` records the pause and returns at once."""

    def __init__(self):
        self.pauses = []

    def __getattr__(self, name):
        return getattr(asyncio, name)

    async def sleep(self, seconds):
        self.pauses.append(seconds)
