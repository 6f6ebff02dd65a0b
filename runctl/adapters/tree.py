"""A config's values by their paths, as guesses look for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

from runctl.adapters.spec import ANYWHERE, Place, Take, normal, words
from runctl.light import dataclass, pattern
from runctl.yamldoc import Path

_MOST_LISTED = 50
_SAVES = frozenset((
    "save", "saves", "saving", "ckpt", "ckpts", "checkpoint", "checkpoints", "checkpointing", "snapshot",
    "snapshots",
))  # fmt: skip
_NO_SAVES = frozenset((
    "dir", "dirs", "path", "paths", "folder", "root", "output", "outputs", "name", "prefix", "uri", "bucket",
    "url", "file", "files", "gradient", "gradients", "grad", "activation", "activations", "act", "recompute",
    "load", "resume", "from", "init", "pretrained", "best", "last", "limit", "total", "keep", "top", "metric",
    "monitor", "mode", "hub", "safetensors", "image", "images", "sample", "samples", "predictions", "table",
    "plot", "figure", "figures", "attention", "maps", "summary", "video", "videos", "weights", "only", "format",
    "optimizer", "async", "final", "end", "code", "config", "hyperparameters", "use",
))  # fmt: skip
_REFERENCE = pattern(r"\$\{([A-Za-z_][\w.]*)\}|!ref <([A-Za-z_]\w*)>")
_FURTHEST = 5  # references from one to the next
_CLASSES = frozenset({"class", "target", "type", "callback", "component"})


@dataclass(frozen=True)
class Leaf:
    """A value of a config with its path."""

    path: Path
    value: Any


class Tree:
    """A config's data by path: every value of a mapping, also of those in lists, the shallowest first."""

    def __init__(self, data: Any, sections: Sequence[str] = ()) -> None:
        self.data = data
        self.roots: list[tuple[Path, Any]] = [((), data)]
        for section in sections:
            path, node = tuple(section.split(".")), data
            for part in path:
                node = node.get(part) if isinstance(node, dict) else None
            if isinstance(node, dict):
                self.roots.append((path, node))

    @cached_property
    def leaves(self) -> list[Leaf]:
        found: list[Leaf] = []
        level: list[tuple[Path, Any]] = [((), self.data)]
        while level:
            below: list[tuple[Path, Any]] = []
            for path, node in level:
                if path:
                    found.append(Leaf(path, referred(node, self.data)))
                if isinstance(node, dict):
                    below += [((*path, key), value) for key, value in node.items()]
                elif isinstance(node, list):
                    below += [((*path, at), one) for at, one in enumerate(node[:_MOST_LISTED]) if isinstance(one, dict)]
            level = below
        return found

    def exact(self, key: str) -> Iterator[Leaf]:
        parts: Path = tuple(key.split("."))
        for root, node in self.roots:
            for part in parts:
                if not isinstance(node, dict) or part not in node:
                    break
                node = node[part]
            else:
                yield Leaf((*root, *parts), referred(node, self.data))

    def find(self, key: str) -> Iterator[Leaf]:
        """Every value that the key path names."""
        if not key.startswith(ANYWHERE):
            yield from self.exact(key)
            return
        place = Place("", 0, Take(key), frozenset())
        for leaf in self.leaves:
            if normal(str(leaf.path[-1])) == place.take.suffix[-1] and stands(leaf.path, place):
                yield leaf

    def value(self, key: str) -> Any:
        return next((leaf.value for leaf in self.find(key)), None)


def referred(value: Any, data: Any) -> Any:
    """What a value that is wholly the name of another key stands for (`${model.width}`, `!ref <seed>`): that key's
    value, where it is there and no section; else the value as it is."""
    for _ in range(_FURTHEST):
        if not isinstance(value, str) or value[:2] not in ("${", "!r") or not (match := _REFERENCE.fullmatch(value)):
            break
        found = data
        for part in (match[1] or match[2]).split("."):
            found = found.get(part) if isinstance(found, dict) else None
        if found is None or isinstance(found, dict | list):
            break
        value = found
    return value


def saves(tree: Tree) -> Iterator[str]:
    """The keys that may say how often it saves, known or not: with a word of saving, and none of where or what."""
    for leaf in tree.leaves:
        if isinstance(leaf.value, dict | list) or leaf.value is None:
            continue
        if isinstance(leaf.value, str) and "checkpoint" in leaf.value.lower() and words(str(leaf.path[-1])) & _CLASSES:
            yield ".".join(map(str, leaf.path))
            continue
        inside = frozenset[str]().union(*(words(str(part)) for part in leaf.path))
        if inside & _SAVES and not words(str(leaf.path[-1])) & _NO_SAVES and not {"activation", "gradient"} & inside:
            yield ".".join(map(str, leaf.path))


def stands(path: Path, place: Place) -> bool:
    """Whether the path ends as the guess wants, outside the sections that it passes over."""
    suffix = place.take.suffix
    by_word = place.take.key.startswith(f"{ANYWHERE}~")
    longer = not by_word and len(suffix) > 1  # the last part is known to fit
    if longer and tuple(normal(str(part)) for part in path[-len(suffix) :]) != suffix:
        return False
    above = path if by_word else path[: -len(suffix)]
    return not place.apart or all(place.apart.isdisjoint(words(str(part))) for part in above)
