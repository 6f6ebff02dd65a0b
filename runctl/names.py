"""What a run may be called; apart, so that the record and the supervisor need no config to know it."""

from __future__ import annotations

from runctl.light import pattern

RUN_NAME = pattern(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
