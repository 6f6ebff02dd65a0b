"""The plain part of YAML, read line by line: mappings in blocks, of words as keys and words as values.

Most configs hold little else, and a parser's events for it cost three times what is made of them. Whatever is not
plainly of this kind (a quote, a list, a brace, a text over several lines, a tab, a letter that is not ASCII, a key that
is given twice) is left to the parser, which alone says what is wrong. A property test holds the two against each other.
"""

from __future__ import annotations

import re
from sys import intern
from typing import Any

from runctl.light import pattern
from runctl.yamldoc import Document, Path, Position, Written
from runctl.yamlscalar import Invalid, plain

MAX_LETTERS, MAX_DEPTH = 1 << 16, 60  # well below the limits of `yamldoc`
# An indent, and then a key with or without a value, a comment, or nothing.
_LINE = pattern(
    r"( *)(?:([A-Za-z_][\w.-]{0,99}):(?: +((?:[\w./]|[+-](?=[\w.]))[\w./+-]*(?: +[\w./+-]+)*))?(?: +#[ -~]*| *)"
    r"|#[ -~]*|)(?:\n|\Z)",
    re.ASCII,
)


def read(document: Document) -> bool:
    """Fill in what the document's text says; False, and nothing filled in, where it is not plain."""
    text, file = document.text, document.file
    if len(text) > MAX_LETTERS:
        return False
    data: dict[str, Any] = {}
    keys: dict[Path, Position] = {}
    values: dict[Path, Position] = {}
    scalars: dict[Path, Written] = {}
    above: Path = ()
    node, dotted, indent = data, "", -1
    outer = [(node, above, dotted, indent)]
    opens = True  # the next key begins a mapping: `node`, whose path is `above`
    number = end = 0
    for match in _LINE.finditer(text):
        if match.start() != end:
            return False  # a line that is not plain
        (start, end), number = match.span(), number + 1
        spaces, key, word = match.groups()
        if key is None:
            continue
        key = intern(key)  # files have the same keys
        column = len(spaces)
        if opens:
            if column <= indent or len(outer) > MAX_DEPTH:
                return False  # a key without a value
            values[above] = Position(file, number, column + 1)
            indent, opens = column, False
        while column < indent:
            node, above, dotted, indent = outer.pop()
        if column != indent or key in node:
            return False
        path = (*above, key)
        keys[path] = Position(file, number, column + 1)
        if word is None:
            outer.append((node, above, dotted, indent))
            below: dict[str, Any] = {}
            node[key] = below
            node, above, dotted, opens = below, path, f"{dotted}{key}.", True
            continue
        try:
            node[key] = value = plain(word)
        except Invalid:
            return False
        values[path] = at = Position(file, number, match.start(3) - start + 1)
        scalars[path] = Written(intern(dotted + key), word, value, False, at)
    if opens or end != len(text):
        return False
    document.data, document.keys, document.values, document.scalars = data, keys, values, scalars
    document.straight = True
    return True
