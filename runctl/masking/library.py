"""The detectors of detect-secrets, as patterns: the only module that imports it. Without it there are none.

Those that go by entropy or by a name beside a value are left out: in logs they find hashes and numbers, and `spans` has
stricter ones; so is one that takes many names of classes for a key.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

_LEFT_OUT = ("IPPublic", "Keyword", "Base64", "Hex", "BasicAuth", "PrivateKey", "Artifactory")

_LEFT_OUT = ("IPPublic", "Keyword", "Base64", "Hex", "BasicAuth", "PrivateKey", "Artifactory")


@cache
def detectors() -> tuple[tuple[str, re.Pattern[str]], ...]:
    """(what it finds in words, pattern) of each detector; () where detect-secrets is not installed."""
    try:
        from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
        from detect_secrets.plugins.base import RegexBasedDetector
    except ImportError:
        return ()
    found: list[tuple[str, re.Pattern[str]]] = []
    plugin: Any
    for words, plugin in sorted(get_mapping_from_secret_type_to_class().items()):
        if issubclass(plugin, RegexBasedDetector) and not plugin.__name__.startswith(_LEFT_OUT):
            found += [(f"{words} (detect-secrets)", pattern) for pattern in plugin().denylist]
    return tuple(found)
