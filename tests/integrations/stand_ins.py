"""Stand-ins for frameworks that are not installed. They have only names that the real modules have.

frameworks.json is the record of the real ones; record.py writes it.
"""

import inspect
import json
import sys
from dataclasses import make_dataclass
from inspect import Parameter
from pathlib import Path
from types import ModuleType
from typing import Any

RECORDED = json.loads(Path(__file__).with_name("frameworks.json").read_text(encoding="utf-8"))


def install(monkeypatch, path, **contents):
    """Install a module with these contents, and its parents.

    Raises AttributeError for a name that the real module does not have, and TypeError for other parameters.
    """
    module = ModuleType(path)
    for name, content in contents.items():
        check(path, name, content)
        setattr(module, name, content)
    parts = path.split(".")
    for depth in range(1, len(parts)):
        parent = ".".join(parts[:depth])
        if parent not in sys.modules:
            monkeypatch.setitem(sys.modules, parent, ModuleType(parent))
    monkeypatch.setitem(sys.modules, path, module)


def check(path, name, content):
    """Raise AttributeError or TypeError if a stand-in is not like the recorded name of a module."""
    names = RECORDED[path]["names"]
    if name not in names:
        raise AttributeError(f"the real {path} has no {name} ({RECORDED[path]['from']})")
    if isinstance(names[name], dict):
        members = _members(names, name)
        for member, value in _own(content).items():
            if member not in members and (member == "__init__" or not member.startswith("__")):
                raise AttributeError(f"the real {name} of {path} has no {member}")
            _check_parameters(f"{path}.{name}.{member}", value, members.get(member))
    else:
        _check_parameters(f"{path}.{name}", content, names[name])


def sample(**values):
    """Return slime's Sample with its fields and no others."""
    fields = RECORDED["slime.utils.types"]["names"]["Sample"]["members"]
    kind = make_dataclass("Sample", [(name, Any, None) for name, value in fields.items() if value is None])
    return kind(**values)


def _members(names, name):
    """Return the members of a recorded class, those of recorded bases included."""
    recorded = names.get(name)
    if not isinstance(recorded, dict):
        return {}
    inherited = {}
    for base in recorded["bases"]:
        inherited |= _members(names, base)
    return inherited | recorded["members"]


def _own(kind):
    """Return the annotated fields, methods and public attributes that a class defines itself."""
    own = dict.fromkeys(inspect.get_annotations(kind))
    prefix = f"{kind.__qualname__}."  # other functions come from enum and pydantic
    methods = {name: value for name, value in vars(kind).items() if inspect.isfunction(value)}
    own |= {name: value for name, value in methods.items() if value.__qualname__.startswith(prefix)}
    public = {name: value for name, value in vars(kind).items() if not name.startswith(("_", "model_"))}
    return own | public


def _check_parameters(label, content, recorded):
    if isinstance(recorded, str) and (actual := _parameters(content)) != recorded:
        raise TypeError(f"{label} has the parameters {actual}, but the real one has {recorded}")


def _parameters(function):
    """Return parameters as record.py writes them."""
    signature = inspect.signature(function)
    plain = [
        each.replace(annotation=Parameter.empty, default=each.default if each.default is each.empty else ...)
        for each in signature.parameters.values()
    ]
    text = str(signature.replace(parameters=plain, return_annotation=inspect.Signature.empty))
    return text.replace("=Ellipsis", "=...")
