import re

from grm_service import errors
from grm_service.errors import GRMError


def drawn():
    """The tree at the top of the module: each class with its base, in order."""
    path, pairs = [], []
    for indent, name in re.findall(r"^( *)(?:· )?([A-Z]\w+)(?:$|  )", errors.__doc__, re.MULTILINE):
        depth = (len(indent) + 1) // 2
        path[depth:] = [name]
        pairs.append((name, path[depth - 1] if depth else None))
    return pairs


def derived(kind=GRMError, base=None):
    """The classes of the module: each with its base, in order of definition."""
    children = [child for child in kind.__subclasses__() if child.__module__ == errors.__name__]
    pairs = [(kind.__name__, base)]
    for child in children:
        pairs += derived(child, kind.__name__)
    return pairs


def test_drawn_tree_is_the_class_tree():
    assert dict(drawn()) == dict(derived())
    assert len(drawn()) == len(derived()) > 30


def test_every_error_has_a_docstring_and_a_code():
    for name, _ in derived():
        kind = getattr(errors, name)
        assert kind.__doc__
        assert re.fullmatch(r"[a-z_]+", kind.code)
