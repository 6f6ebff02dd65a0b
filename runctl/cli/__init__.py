"""The command line: one file per command, imported when it is asked for.

Why a table: `runctl status` must not pay for the other commands. The first word decides which module is loaded;
only the help and shell completion load all of them, and those modules import nothing but typer.
"""

from __future__ import annotations

import errno
import functools
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer

from runctl import __version__
from runctl.errors import Exit, Internal, RunctlError, of_place

COMMANDS = (
    "preflight",
    "adapt",
    "estimate",
    "guards",
    "patterns",
    "probe",
    "encode",
    "data",
    "launch",
    "status",
    "events",
    "logs",
    "why",
    "wait",
    "stop",
    "resume",
    "checkpoint",
    "pull",
    "attach",
    "reconcile",
    "compare",
    "prune",
    "doctor",
    "notices",
    "card",
    "config",
    "gpus",
    "rules",
    "schema",
    "init",
)
ALIASES = {"check": "preflight", "ps": "status", "ls": "status", "list": "status", "cancel": "stop"}

HELP = """Take an ML training run from a YAML file to an accounted-for result.

\b
  runctl preflight configs/quickstart.yaml          is this safe, how long, how much?
  runctl launch configs/quickstart.yaml --detach    returns when step 1 has run
  runctl status                                     every run: where it is, how it is
  runctl logs -f RUN · stop RUN · resume RUN · pull RUN
"""
EPILOG = (
    "Exit codes: 0 fine · 1 findings · 2 usage · 3 internal error · 4 refused by policy · 5 provider · "
    "6 run failed or stopped · 7 run killed by a guard · 8 a wait timed out · 130 Ctrl-C · 141 closed pipe."
)


def main() -> None:
    """Entry point of `runctl`."""
    _stand_in()
    first = next((word for word in sys.argv[1:] if not word.startswith("-")), None)
    completing = any(name.endswith("_COMPLETE") and "RUNCTL" in name for name in os.environ)
    if completing and len(typed := _typed()) > 2:  # the command stands: the others need not be loaded
        first, completing = typed[1], False
    chosen = ALIASES.get(first or "", first)
    try:
        build([chosen] if chosen in COMMANDS and not completing else COMMANDS)(prog_name="runctl")
    except SystemExit as end:  # click and rich turn a closed pipe into exit 1, which means findings here
        if isinstance(end.__context__, BrokenPipeError) or _reader_left():
            raise SystemExit(Exit.CLOSED_PIPE) from None
        raise


def _stand_in() -> None:
    """Take the place of a stream that was closed from the start (`>&-`): no file that is opened later gets its number,
    and what is written there is lost, as was asked."""
    for name, flags, mode in (("stdin", os.O_RDONLY, "r"), ("stdout", os.O_WRONLY, "w"), ("stderr", os.O_WRONLY, "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, flags), mode))


def _typed() -> list[str]:
    """What stands on the line that a shell wants completed, in words."""
    line = os.environ.get("COMP_WORDS") or os.environ.get("_TYPER_COMPLETE_ARGS") or ""
    return [*line.split(), *([""] if line[-1:].isspace() else [])]


def build(names: Any = COMMANDS) -> typer.Typer:
    """The typer app with the given commands."""
    app = typer.Typer(
        help=HELP,
        epilog=EPILOG,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    for name in names:
        if importlib.util.find_spec(f"runctl.cli.{name}") is None:
            continue
        module = importlib.import_module(f"runctl.cli.{name}")
        if hasattr(module, "app"):
            for command in module.app.registered_commands:
                command.callback = guarded(command.callback)
            app.add_typer(module.app, name=name)
            continue
        app.command(name)(guarded(module.command))
        for alias, target in ALIASES.items():
            if target == name:
                app.command(alias, hidden=True)(guarded(module.command))
    return app


def guarded(function: Callable[..., Any]) -> Callable[..., Any]:
    """Turn what a person can fix into one message and its exit code; anything else is a defect, exit 3."""
    if hasattr(function, "__wrapped__"):
        return function

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        as_json = kwargs.get("as_json") or kwargs.get("form") == "json"
        try:
            result = function(*args, **kwargs)
            sys.stdout.flush()
            return result
        except RunctlError as error:
            if hasattr(error, "problems"):
                from runctl.cli import _foreign

                error = _foreign.reworded(error, kwargs.get("config"))
            _tell(error, as_json)
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            sys.stderr.write("\ninterrupted\n")
            raise typer.Exit(Exit.INTERRUPTED) from None
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise
            known = of_place(error, _full_output(error) or Path.cwd())
            if known is None:
                _internal(error, as_json)
                raise typer.Exit(Exit.INTERNAL) from None
            _tell(known, as_json)
            raise typer.Exit(known.exit_code) from None
        except (typer.Exit, typer.Abort):
            raise
        except Exception as error:
            if type(error).__module__.startswith(("typer", "click")):
                raise
            _internal(error, as_json)
            raise typer.Exit(Exit.INTERNAL) from None

    return call


def _tell(error: RunctlError, as_json: bool | None) -> None:
    """The error on stderr for people, and with `--json` on stdout for programs."""
    from runctl import view

    if as_json:
        view.print_json({**error.data, "error": error.to_json()})
    view.print_error(error)


def _reader_left() -> bool:
    """Whether nobody reads what is still to be written to standard output; nothing more is tried there then."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    except (OSError, ValueError, AttributeError):  # full, or closed from the start: that is another matter
        pass
    return False


def _full_output(error: OSError) -> str | None:
    """`standard output` if it was what could not be written to; nothing more is tried there, not even at the exit.

    Such an error names no file, and comes from what prints."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    module = place.tb_frame.f_globals.get("__name__", "") if place else ""
    if error.filename is not None or not module.startswith(("runctl.cli", "runctl.view", "rich", "typer", "click")):
        return None
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return "standard output"


def _internal(error: Exception, as_json: bool | None) -> None:
    if os.environ.get("RUNCTL_DEBUG"):
        raise error
    told = Internal(
        f"internal error: {type(error).__name__}: {error}",
        hint="this is a defect of runctl, not of your config; RUNCTL_DEBUG=1 shows the traceback to report",
    )
    _tell(told, as_json)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"runctl {__version__}")
        raise typer.Exit


def _root(
    version: bool = typer.Option(
        False, "--version", help="Show the version and exit.", callback=_version, is_eager=True
    ),
) -> None:
    pass
