"""Write the versions and hashes of what an image installs: python deploy/lock.py EXTRA ... > FILE.

To be run with the Python version and on the platform of the image: Linux on x86-64, Python 3.11.
"""

import json
import subprocess
import sys

COMMAND = [
    sys.executable,
    "-m",
    "pip",
    "install",
    "--quiet",
    "--dry-run",
    "--ignore-installed",
    "--report",
    "-",
]


def main(extras: list[str]) -> None:
    done = subprocess.run([*COMMAND, f".[{','.join(extras)}]"], stdout=subprocess.PIPE, check=True)
    packages = {
        each["metadata"]["name"].lower().replace("_", "-"): (
            each["metadata"]["version"],
            each["download_info"],
        )
        for each in json.loads(done.stdout)["install"]
        if "dir_info" not in each["download_info"]
    }
    lines = [f"# Written by deploy/lock.py {' '.join(extras)}"]
    for name, (version, info) in sorted(packages.items()):
        lines.append(f"{name}=={version} --hash=sha256:{info['archive_info']['hashes']['sha256']}")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
