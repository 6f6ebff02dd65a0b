"""What may go and what went, as a person reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runctl import view
from runctl.units import counted, format_bytes

if TYPE_CHECKING:
    from runctl.prune import Done, Plan


def show(plan: Plan, done: Done | None) -> None:
    """The plan on stdout, or what became of it; what to type next on stderr."""
    from rich.text import Text

    items = plan.items if done is None else done.items
    for item in items:
        path = view.writable(str(item.path.relative_to(plan.root.parent)))
        line = Text(f"{format_bytes(item.bytes):>10}  {item.kind:<10}  ").append(path, style="name")
        line.append(f" on {item.where}" if item.where else "")
        view.out().print(line.append(f"  {item.why}", style="dim"))
    console = view.err()
    for one in plan.kept:
        console.print(f"{one.run}: nothing of it goes: {one.why}", markup=False, style="dim")
    for item, why in done.left if done else ():
        console.print(f"{item.path.relative_to(plan.root)} was left: {why}", markup=False, style="warn")
    folders = counted(len(items), "folder")
    if done is not None:
        console.print(f"deleted {folders}, {format_bytes(done.bytes)}", markup=False)
    elif items:
        console.print(f"{folders}, {format_bytes(plan.bytes)}, would go. Nothing was touched: add --yes", markup=False)
    else:
        console.print(f"nothing in {plan.root} may go", markup=False)
