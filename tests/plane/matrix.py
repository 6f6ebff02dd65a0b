"""The tests of the Modal backend under the lowest and the newest client that pyproject.toml allows.

    python tests/plane/matrix.py            the plane's own tests, and those of a run on it that take seconds
    python tests/plane/matrix.py --slow     all of them (about half an hour for each version on two cores)
    python tests/plane/matrix.py --keep DIR to keep the environments for the next time

Each version is installed by pip into an environment of its own, which takes everything else from the environment that
this is started in. Where both versions are one, that is said, and the tests run once. Exit code 1 if any failed.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PLANE = ("tests/test_plane.py", "tests/test_plane_trouble.py")
RUNS = ("tests/test_modal_launch.py", "tests/test_modal_trouble.py", "tests/test_modal_faults.py")
BESIDE = ("tests/test_modal_quirks.py", "tests/test_modal_online.py", "tests/test_data_volume.py")


def constraint() -> str:
    """What the extra says: modal>=1.6.4,<2."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        (found,) = tomllib.load(file)["project"]["optional-dependencies"]["modal"]
    return str(found)


def lowest(said: str) -> str:
    found = re.search(r">=\s*([\w.]+)", said)
    if found is None:
        raise SystemExit(f"{said} names no lowest version")
    return found[1]


def newest(said: str) -> str:
    """What pip would install today."""
    argv = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "-q", "--dry-run", "--no-deps"]
    argv += ["--ignore-installed", "--report", "-", said]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"the newest version cannot be asked for: {done.stderr.strip().splitlines()[-1:]}")
    (item,) = json.loads(done.stdout)["install"]
    return str(item["metadata"]["version"])


def environment(folder: Path, version: str) -> Path:
    """The Python of an environment with that version of modal; made where it is missing."""
    python = folder / f"modal-{version}" / "bin" / "python"
    if not (folder / f"modal-{version}" / "whole").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(python.parents[1])], check=True)
        argv = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "-q", f"modal=={version}"]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"modal {version} cannot be installed: {done.stderr.strip().splitlines()[-1:]}")
        said = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
        site = subprocess.run(said, check=True, capture_output=True, text=True).stdout.strip()
        line = f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n"
        (Path(site) / "zz_all_else.pth").write_text(line)
        (folder / f"modal-{version}" / "whole").touch()
    argv = [str(python), "-c", "import modal; print(modal.__version__, modal.__file__)"]
    found, _, where = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip().partition(" ")
    if found != version or not where.startswith(str(folder)):
        raise SystemExit(f"the environment for modal {version} imports {found} from {where}")
    return python


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--slow", action="store_true", help="also the tests that take long")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="where the environments are, and stay")
    parser.add_argument("tests", nargs="*", help="only these files")
    given = parser.parse_args()
    said = constraint()
    versions = [lowest(said), newest(said)]
    if versions[0] == versions[1]:
        print(f"the lowest and the newest version that {said} allows are the same today: {versions[0]}; run once")
        versions = versions[:1]
    else:
        print(f"{said} allows {versions[0]} to {versions[1]}")
    failed = []
    with tempfile.TemporaryDirectory(prefix="matrix-") as made:
        folder = (given.keep or Path(made)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        for version in versions:
            python = environment(folder, version)
            argv = [str(python), "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider"]
            argv += [] if given.slow else ["-m", "not slow"]
            print(f"modal {version}: {' '.join(argv[1:])}", flush=True)
            if subprocess.run([*argv, *(given.tests or (*PLANE, *RUNS, *BESIDE))], cwd=ROOT, check=False).returncode:
                failed.append(version)
    print(f"failed with modal {', '.join(failed)}" if failed else f"all passed with modal {' and '.join(versions)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
