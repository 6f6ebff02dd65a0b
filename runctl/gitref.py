"""A repository as it was at another git ref: which files there were, and a copy of them in a folder.

Why a copy, and not `git show` for each config: a config's report also rests on `runctl.yaml`, on the manifests, on
what it is overlaid with, and on the configs beside it. In the copy all of these are as they were; what git ignores
(datasets, calibrations) is not part of any version and is linked to what is there now.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from runctl.errors import UsageError
from runctl.yamldoc import MAX_BYTES

SECONDS = 60.0
MOST_FILES = 20_000
MOST_BYTES = 256 << 20
MOST_LINKS = 5_000
_FILE, _EXECUTABLE, _LINK = "100644", "100755", "120000"
_ALWAYS = (".yaml", ".yml", ".json")


@dataclass(frozen=True)
class Tree:
    """`commit` is the whole hash that `ref` stands for; `note` says where it is not the point that the present
    version branched off from. `root` is the repository's folder, resolved."""

    root: Path
    ref: str
    commit: str
    note: str = ""


def find(paths: Iterable[Path], ref: str) -> Tree:
    """The commit to compare with: where the present version branched off from `ref`, else `ref` itself.

    Raises UsageError outside a repository, for paths of two repositories, for a ref that is not known, and says what
    to do in a shallow clone."""
    root = _root(list(paths))
    if ref.startswith("-") or not ref.strip():
        raise UsageError(f"'{ref}' is no git ref", hint="give a branch, a tag or a commit: --base origin/main")
    tip = _ask(root, "rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}")
    shallow = _ask(root, "rev-parse", "--is-shallow-repository") == "true"
    if not tip:
        raise UsageError(f"git knows no '{ref}' here", hint=_unknown(root, ref, shallow))
    forked = _ask(root, "merge-base", tip, "HEAD")
    if forked:
        return Tree(root, ref, forked)
    why = "the clone is shallow" if shallow else "they have no common commit"
    return Tree(root, ref, tip, f"compared with {ref} itself, not with where this branch left it: {why}")


def _root(paths: list[Path]) -> Path:
    roots = set()
    for path in paths or [Path()]:
        place = path.resolve()
        folder = next((one for one in (place, *place.parents) if one.is_dir()), Path.cwd())
        done = _run(folder, "rev-parse", "--show-toplevel")
        if done.returncode:
            said = done.stderr.decode("utf-8", "replace").strip().splitlines()
            hint = "--base needs a git repository; without it the configs are judged as they are"
            if said and "dubious ownership" in said[0]:
                raise UsageError(f"git refuses {folder}: it belongs to somebody else", hint=said[-1].strip())
            raise UsageError(f"{path} is not in a git repository", hint=hint)
        roots.add(Path(os.fsdecode(done.stdout.rstrip(b"\n"))).resolve())
    if len(roots) > 1:
        raise UsageError(f"--base: the paths are in different repositories: {', '.join(sorted(map(str, roots)))}")
    return roots.pop()


def _unknown(root: Path, ref: str, shallow: bool) -> str:
    if shallow:
        hint = f"the clone is shallow: git fetch --depth=1 origin {ref.removeprefix('origin/')}"
        return f"{hint}, then --base FETCH_HEAD; in GitHub Actions: actions/checkout with fetch-depth: 0"
    remote = _ask(root, "rev-parse", "--verify", "--quiet", f"origin/{ref}^{{commit}}")
    return f"did you mean 'origin/{ref}'?" if remote else f"git fetch origin {ref}"


def renames(tree: Tree) -> dict[str, str]:
    """Files that have another name now: new → old, as git recognises them by what is in them."""
    found = _bytes(tree.root, "diff", "--no-ext-diff", "--name-status", "-z", "-M", tree.commit, "--")
    parts = [os.fsdecode(part) for part in found.split(b"\0")]
    result = {}
    index = 0
    while index < len(parts) - 1:
        if parts[index].startswith(("R", "C")):
            if parts[index].startswith("R"):
                result[parts[index + 2]] = parts[index + 1]
            index += 3
        else:
            index += 2
    return result


def touched(tree: Tree, *patterns: str) -> list[str]:
    """Files that are not as they were at the commit, or are new, by name and in order; `patterns` are git's."""
    changed = _bytes(tree.root, "diff", "--no-ext-diff", "--name-only", "-z", tree.commit, "--", *patterns)
    fresh = _bytes(tree.root, "ls-files", "--others", "--exclude-standard", "-z", "--", *patterns)
    names = {os.fsdecode(name) for name in (*changed.split(b"\0"), *fresh.split(b"\0")) if name}
    return sorted(names)


def copy(tree: Tree, folder: Path) -> set[str]:
    """Lay the files of the commit into `folder` (resolved), and return the names of all files that it has, with
    forward slashes.

    Files larger than a config can be, and all but YAML and JSON of a huge repository, are linked to the present
    ones."""
    entries = list(_entries(tree))
    sizes = _sizes(tree, [blob for _, blob, _ in entries])
    small = [size is not None and size <= MAX_BYTES for size in sizes]
    if (
        len(entries) > MOST_FILES
        or sum(size or 0 for size, fits in zip(sizes, small, strict=True) if fits) > MOST_BYTES
    ):
        small = [fits and name.endswith(_ALWAYS) for fits, (_, _, name) in zip(small, entries, strict=True)]
    wanted = [entry for entry, fits in zip(entries, small, strict=True) if fits]
    links = []
    for (mode, _, name), content in zip(wanted, _contents(tree, [blob for _, blob, _ in wanted]), strict=True):
        if mode == _LINK:
            links.append((name, os.fsdecode(content)))
            continue
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    ignored = _bytes(tree.root, "ls-files", "--others", "--ignored", "--exclude-standard", "--directory", "-z")
    beside = [os.fsdecode(name).rstrip("/") for name in ignored.split(b"\0") if name]
    large = [name for (mode, _, name), fits in zip(entries, small, strict=True) if not fits and mode != _LINK]
    for name in (*large[:MOST_LINKS], *beside[:MOST_LINKS]):
        if (tree.root / name).exists():
            _link(folder, name, str(tree.root / name))
    for name, target in links:
        _link(folder, name, target)
    return {name for _, _, name in entries}


def _link(folder: Path, name: str, target: str) -> None:
    """Make a link, where its own place does not lead out of the copy by another one."""
    place = folder / name
    if place.parent.resolve().is_relative_to(folder) and not os.path.lexists(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(target)


def _entries(tree: Tree) -> Iterator[tuple[str, str, str]]:
    """(mode, blob, name) of every file of the commit whose name stays inside the repository."""
    for entry in _bytes(tree.root, "ls-tree", "-r", "-z", "--full-tree", tree.commit).split(b"\0"):
        if not entry:
            continue
        facts, _, raw = entry.partition(b"\t")
        mode, _, blob = facts.decode("ascii").split()
        name = os.fsdecode(raw)
        parts = PurePosixPath(name).parts
        if mode in (_FILE, _EXECUTABLE, _LINK) and not {"..", ".git", "/"} & set(parts):
            yield mode, blob, name


def _sizes(tree: Tree, blobs: list[str]) -> list[int | None]:
    """The size of each blob; None where git does not have it."""
    asked = "".join(f"{blob}\n" for blob in blobs).encode()
    last = [
        line.rsplit(b" ", 1)[-1] for line in _bytes(tree.root, "cat-file", "--batch-check", given=asked).splitlines()
    ]
    return [int(word) if word.isdigit() else None for word in last]


def _contents(tree: Tree, blobs: list[str]) -> Iterator[bytes]:
    """What is in each blob, in order."""
    data = _bytes(tree.root, "cat-file", "--batch", given="".join(f"{blob}\n" for blob in blobs).encode())
    start = 0
    for _ in blobs:
        end = data.index(b"\n", start)
        size = int(data[start:end].rsplit(b" ", 1)[-1])
        yield data[end + 1 : end + 1 + size]
        start = end + 1 + size + 1


def _ask(root: Path, *arguments: str) -> str:
    """What git prints; empty where it says no."""
    done = _run(root, *arguments)
    return "" if done.returncode else os.fsdecode(done.stdout).strip()


def _bytes(root: Path, *arguments: str, given: bytes = b"") -> bytes:
    done = _run(root, *arguments, given=given)
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines() or [f"exit {done.returncode}"]
        raise UsageError(f"git {arguments[0]} failed: {said[-1]}")
    return done.stdout


def _run(folder: Path, *arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0"}
    command = ["git", "-C", str(folder), "-c", "core.fsmonitor=false", *arguments]
    try:
        return subprocess.run(command, input=given, capture_output=True, timeout=SECONDS, check=False, env=environment)
    except FileNotFoundError:
        raise UsageError("git is not installed", hint="--base reads the other version with git") from None
    except subprocess.TimeoutExpired:
        raise UsageError(f"git {arguments[0]} did not end within {SECONDS:g} s") from None
