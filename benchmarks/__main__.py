"""`python -m benchmarks` runs it all and writes RESULTS.md; with names of parts it renews those only."""

from __future__ import annotations

import importlib
import os
import sys

from benchmarks import results

_PARTS = ("embedded", "others", "load", "audit", "groups", "front", "stopping", "gpu")


def main(names: list[str]) -> None:
    if unknown := set(names) - set(_PARTS):
        sys.exit(f"unknown part {', '.join(sorted(unknown))}; known: {', '.join(_PARTS)}")
    # Untrained, it writes as long as it may, so that engines are compared over as many tokens.
    os.environ.setdefault("GRM_PROFILE", "smollm2-135m")
    for name in names or _PARTS:
        print(f"==> {name}", file=sys.stderr, flush=True)
        results.write(importlib.import_module(f"benchmarks.{name}").tables())
    print(f"wrote {results.PAGE}", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1:])
