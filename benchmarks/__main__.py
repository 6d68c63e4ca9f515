"""`python -m benchmarks` runs all parts and writes RESULTS.md; with names of parts, it updates only those."""

from __future__ import annotations

import importlib
import os
import sys

from benchmarks import results

_PARTS = ("embedded", "others", "load", "audit", "groups", "front", "hostile", "stopping", "gpu")


def main(names: list[str]) -> None:
    if unknown := set(names) - set(_PARTS):
        sys.exit(f"unknown part {', '.join(sorted(unknown))}; known: {', '.join(_PARTS)}")
    # The untrained model always generates up to max_tokens: all engines generate the same number of tokens.
    os.environ.setdefault("GRM_PROFILE", "smollm2-135m")
    for name in names or _PARTS:
        print(f"==> {name}", file=sys.stderr, flush=True)
        results.write(importlib.import_module(f"benchmarks.{name}").tables())
    print(f"wrote {results.PAGE}", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1:])
