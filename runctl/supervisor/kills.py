"""What the machine says beside an exit code: how many processes the kernel has killed for lack of memory."""

from __future__ import annotations

from pathlib import Path

_COUNTS = (Path("/sys/fs/cgroup/memory.events"), Path("/proc/vmstat"))  # of this container, else of the machine


def memory_kills() -> int | None:
    """Processes killed so far; None where nobody counts them."""
    for path in _COUNTS:
        try:
            text = path.read_text(encoding="ascii", errors="replace")
        except OSError:
            continue
        for line in text.splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill" and count.strip().isdigit():
                return int(count)
    return None


def since(before: int | None) -> int | None:
    """How many more than `before`; None where nobody counts them."""
    now = memory_kills()
    return max(0, now - before) if now is not None and before is not None else None
