import pickle
import re

from grm_service.errors import GRMError, UpstreamRefused


def kinds(kind=GRMError):
    """The classes of the module below one of them, and that one."""
    children = [child for child in kind.__subclasses__() if child.__module__ == GRMError.__module__]
    return [kind, *(each for child in children for each in kinds(child))]


def test_every_error_has_a_docstring_and_a_code():
    assert len(kinds()) > 30
    for kind in kinds():
        assert kind.__doc__
        assert re.fullmatch(r"[a-z_]+", kind.code)


def test_message_leaves_out_the_reason():
    refused = UpstreamRefused("it refused the request (400)", "no such field: 'my text'", 400, "seed")
    for error in (refused, pickle.loads(pickle.dumps(refused))):
        assert str(error) == "it refused the request (400): no such field: 'my text'"
        assert error.message == "it refused the request (400)"
        assert (error.reason, error.status, error.param) == ("no such field: 'my text'", 400, "seed")
