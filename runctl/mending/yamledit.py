"""Change one value of a YAML (or JSON) text and leave every other character as it is: comments, order, quotes, line
endings.

Why not load and dump: PyYAML forgets comments, and libraries that keep them still write blank lines, indents and quotes
their own way. Here the parser's events say where a key and its value begin and end; only that span is replaced, and the
new text is parsed again and compared with what was meant before anybody gets it.
"""

from __future__ import annotations

import json
import math
from typing import Any

import yaml

from runctl import yamldoc
from runctl.facts import Edit
from runctl.light import dataclass, field
from runctl.yamldoc import Document, Path, Position

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class CannotEdit(Exception):
    """The text cannot be changed safely in this place; the message says why."""


@dataclass
class Node:
    """A part of the text, from `start` to `end` (exclusive). `kind` is scalar, alias, map or seq; of a mapping `pairs`
    are its keys and values, of a list `items`. `marked` where an anchor or a tag stands before it."""

    kind: str
    start: int
    end: int
    column: int = 0
    flow: bool = False
    style: str | None = None
    text: str = ""
    marked: bool = False
    pairs: list[tuple[Node, Node]] = field(default_factory=list)
    items: list[Node] = field(default_factory=list)


def changed(document: Document, edit: Edit) -> str:
    """The text with the edit made. Raises CannotEdit where that cannot be done, or would change anything else."""
    try:
        text = _changed(document, edit)
        for key, value in edit.also:
            text = _changed(yamldoc.parse(text, document.file, tags=True), Edit(key, value))
        return text
    except RecursionError:  # aliases within aliases
        raise CannotEdit("the file is nested too deeply") from None
    except (KeyError, IndexError, TypeError):  # a merged key, or a number as a key
        raise CannotEdit("its place in the file cannot be told") from None


def _changed(document: Document, edit: Edit) -> str:
    text = document.text
    try:
        root = _tree(text)
    except yaml.YAMLError as error:
        raise CannotEdit(f"the file cannot be read: {error}") from None
    path = resolved(document, edit.key)
    if edit.rename is not None:
        new, meant = _renamed(text, root, document, path, edit.rename)
    elif edit.value is None:
        new, meant = _removed(text, root, document, path, edit.at)
    else:
        new, meant = _set(text, root, document, path, edit.value)
    try:
        after = yamldoc.parse(new, document.file, tags=True)
    except yamldoc.YamlError as error:
        raise CannotEdit(f"the change would not read as YAML: {error}") from None
    if not same(after.data, meant):
        raise CannotEdit("the change would alter more than it should")
    return new


def resolved(document: Document, key: str) -> Path:
    """The path that a dotted key means: one of the file's, whose own keys may hold dots, or its parts."""
    for table in (document.keys, document.values):
        for path in table:
            if ".".join(map(str, path)) == key:
                return path
    return tuple(key.split("."))


def same(one: Any, other: Any) -> bool:
    """Equal in values and kinds; NaN equals itself, and 1, 1.0 and true are three things."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other) or (isinstance(one, float) and math.isnan(one) and math.isnan(other))


def _unshared(data: Any) -> Any:
    """A deep copy in which what aliases share is apart: an edit of one must not be taken for one of both."""
    if isinstance(data, dict):
        return {key: _unshared(value) for key, value in data.items()}
    return [_unshared(value) for value in data] if isinstance(data, list) else data


def _tree(text: str) -> Node:
    """The text's nodes, without recursion; an empty text is an empty scalar."""
    root = Node("scalar", len(text), len(text))
    stack: list[tuple[Node, list[Node]]] = []
    events: Any = yaml.parse(text, Loader=_LOADER)
    for event in events:
        if isinstance(event, yaml.CollectionEndEvent):
            node, children = stack.pop()
            if node.kind == "map":
                node.pairs = list(zip(children[::2], children[1::2], strict=False))
            else:
                node.items = children
            last = children[-1].end if children else node.end
            mark: Any = event.end_mark
            node.end = mark.index if node.flow else last
        elif isinstance(event, yaml.NodeEvent):
            node = _node(event)
            if stack:
                stack[-1][1].append(node)
            else:
                root = node
            if isinstance(event, yaml.CollectionStartEvent):
                stack.append((node, []))
    return root


def _node(event: Any) -> Node:
    start, end, column = event.start_mark.index, event.end_mark.index, event.start_mark.column
    if isinstance(event, yaml.AliasEvent):
        return Node("alias", start, end, column)
    marked = event.anchor is not None or event.tag is not None
    if isinstance(event, yaml.ScalarEvent):
        return Node("scalar", start, end, column, False, event.style, event.value, marked)
    kind = "map" if isinstance(event, yaml.MappingStartEvent) else "seq"
    return Node(kind, start, end, column, bool(event.flow_style), marked=marked)


def _at(root: Node, path: Path, text: str, position: Position | None = None) -> tuple[Node | None, int, Node]:
    """The mapping that holds the last key of a path, the index of its pair (-1: not there), and the value. Of a key
    that is given twice, the one at `position`, else the last, which counts."""
    node, parent, index = root, None, -1
    for depth, part in enumerate(path):
        parent, index = node, -1
        if node.kind == "seq" and isinstance(part, int) and part < len(node.items):
            node, index = node.items[part], part
            continue
        if node.kind == "alias":
            raise CannotEdit(f"{'.'.join(map(str, path[:depth]))} is an alias of another part of the file")
        if node.kind == "map":
            found = [i for i, (key, _) in enumerate(node.pairs) if key.text == str(part)]
            if position is not None and depth == len(path) - 1:
                wanted = (position.line, position.column)
                found = [i for i in found if _position(text, node.pairs[i][0].start) == wanted]
            if found:
                index = found[-1]
                node = node.pairs[index][1]
                continue
        raise KeyError(depth)
    return parent, index, node


def _position(text: str, index: int) -> tuple[int, int]:
    before = text[:index]
    return before.count("\n") + 1, index - (before.rfind("\n") + 1) + 1


def _renamed(text: str, root: Node, document: Document, path: Path, name: str) -> tuple[str, Any]:
    parent, index, _ = _found(root, path, text)
    if parent is None or parent.kind != "map":
        raise CannotEdit("only a mapping's key has a name")
    if any(key.text == name for key, _ in parent.pairs):
        raise CannotEdit(f"'{name}' is there too")
    key = parent.pairs[index][0]
    if key.marked:
        raise CannotEdit("the key has an anchor or a tag")
    meant = _unshared(document.data)
    holder = _holder(meant, path)
    holder[name] = holder.pop(path[-1])
    return text[: key.start] + _quoted(name, key.style) + text[key.end :], meant


def _removed(text: str, root: Node, document: Document, path: Path, position: Position | None) -> tuple[str, Any]:
    parent, index, _ = _found(root, path, text, position)
    if parent is None or parent.kind != "map":
        raise CannotEdit("only a mapping's key can be taken out")
    meant = _unshared(document.data)
    key, value = parent.pairs[index]
    twins = [other for name, other in parent.pairs if name.text == key.text]
    if len(twins) == 1:
        del _holder(meant, path)[path[-1]]
    elif not all(same(_meaning(text, other), _meaning(text, value)) for other in twins):
        raise CannotEdit("the two differ: keep the one that is meant")
    if parent.flow:
        start, end = key.start, value.end
        if index + 1 < len(parent.pairs):
            end = parent.pairs[index + 1][0].start
        elif index:
            start = parent.pairs[index - 1][1].end
        if "#" in text[start:end]:
            raise CannotEdit("a comment stands in between")
        return text[:start] + text[end:], meant
    line = text.rfind("\n", 0, key.start) + 1
    if text[line : key.start].strip():
        raise CannotEdit("the key does not begin its line")
    if len(parent.pairs) == 1:
        raise CannotEdit("it is the only key of its section")
    return text[:line] + text[_line_end(text, value) :], meant


def _meaning(text: str, node: Node) -> Any:
    """What a part of the text says by itself."""
    try:
        lead = "\n" + " " * node.column if node.kind != "scalar" and not node.flow else ""
        return yamldoc.parse(lead + text[node.start : node.end], tags=True).data
    except yamldoc.YamlError:
        raise CannotEdit("a part of it is an alias") from None


def _set(text: str, root: Node, document: Document, path: Path, value: str) -> tuple[str, Any]:
    meaning = yamldoc.parse(value).data
    meant = _unshared(document.data)
    meant = {} if meant is None else meant
    try:
        parent, _, node = _at(root, path, text)
    except KeyError as missing:
        _put(meant, path, meaning)
        return _inserted(text, root, path, int(missing.args[0]), value), meant
    if parent is None:
        raise CannotEdit("the whole file cannot be replaced")
    _holder(meant, path)[path[-1]] = meaning
    if node.kind == "alias" or node.marked:
        raise CannotEdit("the value has an anchor, an alias or a tag")
    if node.style in ("|", ">") or (node.kind != "scalar" and (not node.flow or "#" in text[node.start : node.end])):
        raise CannotEdit("the value spans several lines")
    if node.start == node.end:
        return f"{text[: node.start]} {value}{text[node.end :]}", meant
    shown = _quoted(meaning, node.style) if node.style and isinstance(meaning, str) else _shown(value, meaning, text)
    return text[: node.start] + shown + text[node.end :], meant


def _inserted(text: str, root: Node, path: Path, depth: int, value: str) -> str:
    """The text with a key that was not there; `depth` of the path's parts are."""
    home = root if depth == 0 else _found(root, path[:depth], text)[2]
    if any(isinstance(part, int) for part in path[depth:]) or home.kind == "alias" or home.marked:
        raise CannotEdit("its section is not written out here")
    names = [str(part) for part in path[depth:]]
    newline = "\r\n" if text.count("\r\n") * 2 > text.count("\n") else "\n"
    if home.kind == "scalar":
        if home.text not in ("", "~", "null", "Null", "NULL") or home.style:
            raise CannotEdit(f"{'.'.join(map(str, path[:depth]))} is no section")
        if depth == 0:
            gap = newline if text and not text.endswith("\n") else ""
            return text + gap + _block(names, value, "", "  ", newline)
        gap = " " if home.start == home.end else ""
        return f"{text[: home.start]}{gap}{{{_flow(names, value, text, False)}}}{text[home.end :]}"
    if home.kind != "map":
        raise CannotEdit(f"{'.'.join(map(str, path[:depth]))} is a list")
    quoted = bool(home.pairs) and all(key.style == '"' for key, _ in home.pairs)
    if home.flow:
        return _into_flow(text, home, _flow(names, value, text, quoted))
    indent = " " * home.pairs[0][0].column
    sections = [node for _, node in root.pairs if node.kind == "map" and node.pairs]
    if len(names) > 1 and sections and all(node.flow for node in sections):
        shown = f"{indent}{names[0]}: {{{_flow(names[1:], value, text, False)}}}{newline}"
    else:
        step = next((node.pairs[0][0].column for node in sections if not node.flow), 2) or 2
        shown = _block(names, value, indent, " " * step, newline)
    end = _line_end(text, home.pairs[-1][1])
    gap = newline if end == len(text) and not text.endswith("\n") else ""
    shown = shown.removesuffix(newline) if gap else shown
    return text[:end] + gap + shown + text[end:]


def _into_flow(text: str, home: Node, shown: str) -> str:
    if not home.pairs:
        inside = home.start + 1
        return text[:inside] + shown + text[inside:]
    key, value = home.pairs[-1]
    line = text.rfind("\n", 0, key.start) + 1
    lead = text[line : key.start]
    own = line > home.start and not lead.strip()
    return text[: value.end] + ("," + _break(text) + lead if own else ", ") + shown + text[value.end :]


def _break(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def _block(names: list[str], value: str, indent: str, step: str, newline: str) -> str:
    lines = [f"{indent}{step * depth}{name}:" for depth, name in enumerate(names)]
    lines[-1] += f" {value}"
    return newline.join(lines) + newline


def _flow(names: list[str], value: str, text: str, quoted: bool) -> str:
    shown = _shown(value, yamldoc.parse(value).data, text)
    for depth, name in enumerate(reversed(names)):
        key = json.dumps(name) if quoted or _is_json(text) else name
        shown = f"{key}: {shown if depth == 0 else '{' + shown + '}'}"
    return shown


def _shown(value: str, meaning: Any, text: str) -> str:
    """The value as the file would write it: as given, and in a file of JSON as JSON."""
    return json.dumps(meaning) if _is_json(text) else value


def _is_json(text: str) -> bool:
    if not text.lstrip().startswith("{"):
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _quoted(value: str, style: str | None) -> str:
    if style == "'":
        return "'" + value.replace("'", "''") + "'"
    return json.dumps(value, ensure_ascii=False) if style else value


def _line_end(text: str, node: Node) -> int:
    """Where the line after a node's last begins."""
    if node.end and text[node.end - 1 : node.end] == "\n" and node.end > node.start:
        return node.end
    found = text.find("\n", node.end)
    return len(text) if found < 0 else found + 1


def _found(root: Node, path: Path, text: str, position: Position | None = None) -> tuple[Node | None, int, Node]:
    try:
        return _at(root, path, text, position)
    except KeyError:
        raise CannotEdit(f"{'.'.join(map(str, path))} is not in this file") from None


def _holder(data: Any, path: Path) -> Any:
    for part in path[:-1]:
        data = data[part]
    return data


def _put(data: Any, path: Path, value: Any) -> None:
    for part in path[:-1]:
        if not isinstance(data, dict):
            raise CannotEdit(f"{part} is no section")
        if data.get(part) is None:
            data[part] = {}
        data = data[part]
    if not isinstance(data, dict):
        raise CannotEdit(f"{path[-1]} has no section to stand in")
    data[path[-1]] = value
