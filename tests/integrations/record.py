"""Record the names of the frameworks' modules that cannot be installed here, from their own sources.

    python -m tests.integrations.record [NEMO_GYM_CHECKOUT SLIME_CHECKOUT]

Wheels come from the package index, the two frameworks without wheels from git directories. The record,
frameworks.json, has no code: names, parameters, and the version and file that they were read from.
"""

import ast
import json
import subprocess
import sys
from pathlib import Path

from tests.conformance.wheels import _source

FILE = Path(__file__).with_name("frameworks.json")
WHEELS = {
    "areal.workflow.rlvr": ("areal==1.0.4", "areal/workflow/rlvr.py"),
    "skyrl_gym.envs.base_text_env": ("skyrl==0.3.0", "skyrl_gym/envs/base_text_env.py"),
    "swift.rewards": ("ms_swift==4.6.0", "swift/rewards/__init__.py"),
    "swift.dataset": ("ms_swift==4.6.0", "swift/dataset/__init__.py"),
}
CHECKOUTS = {
    "nemo_gym.base_resources_server": (0, "nemo_gym/base_resources_server.py"),
    "nemo_gym.judge": (0, "nemo_gym/judge.py"),
    "slime.utils.types": (1, "slime/utils/types.py"),
}


def names_in(source):
    """Return the names that a module defines or imports: functions with parameters, classes with members."""
    return dict(sorted(member for node in ast.parse(source).body for member in _members(node)))


def _members(node):
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        yield node.name, parameters(node.args)
    elif isinstance(node, ast.ClassDef):
        own = {name: value for each in node.body for name, value in _members(each)}
        own |= dict.fromkeys(_set_on_self(node))
        yield node.name, {"bases": [ast.unparse(base) for base in node.bases], "members": own}
    elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        yield node.target.id, None
    elif isinstance(node, ast.Assign):
        yield from ((target.id, None) for target in node.targets if isinstance(target, ast.Name))
    elif isinstance(node, ast.ImportFrom):
        yield from ((alias.asname or alias.name, None) for alias in node.names)
    elif isinstance(node, ast.If):  # `if TYPE_CHECKING:` of lazy packages
        yield from (member for each in node.body for member in _members(each))


def _set_on_self(node):
    for each in ast.walk(node):
        if isinstance(each, ast.Attribute) and isinstance(each.ctx, ast.Store) and _is_self(each.value):
            yield each.attr


def _is_self(node):
    return isinstance(node, ast.Name) and node.id == "self"


def parameters(args):
    """Return parameters as a text such as `(self, a, b=..., *, c=..., **rest)`."""
    positional = [*args.posonlyargs, *args.args]
    required = len(positional) - len(args.defaults)
    texts = [arg.arg + ("=..." if i >= required else "") for i, arg in enumerate(positional)]
    if args.vararg or args.kwonlyargs:
        texts.append(f"*{args.vararg.arg}" if args.vararg else "*")
    for arg, default in zip(args.kwonlyargs, args.kw_defaults, strict=True):
        texts.append(arg.arg + ("=..." if default else ""))
    return f"({', '.join([*texts, *([f'**{args.kwarg.arg}'] if args.kwarg else [])])})"


def main(checkouts):
    recorded = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    for module, (wheel, path) in WHEELS.items():
        recorded[module] = {"from": wheel, "file": path, "names": names_in(_source(wheel, path))}
    if checkouts:
        for module, (place, path) in CHECKOUTS.items():
            commit = _git(checkouts[place], "rev-parse", "HEAD").strip()
            source = _git(checkouts[place], "show", f"HEAD:{path}")
            recorded[module] = {"from": f"commit {commit}", "file": path, "names": names_in(source)}
    FILE.write_text(json.dumps(recorded, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _git(folder, *command):
    return subprocess.run(["git", "-C", folder, *command], check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    main(sys.argv[1:])
