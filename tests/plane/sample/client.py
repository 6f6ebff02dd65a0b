"""What a person's program does with modal, one verb for each process: `python client.py VERB JSON`. Prints JSON lines.

`python client.py serve` imports modal once and forks for every line of its input (see clients.py), which is the same
program without the second that the import takes.
"""

from __future__ import annotations

import datetime
import json
import os
import runpy
import signal
import sys
import traceback
from pathlib import Path

import modal


def say(**what: object) -> None:
    print(json.dumps(what), flush=True)


def hello() -> None:
    modal.Client.from_env().hello()
    say(hello=True)


def launch(spec: dict, mount: str, options: dict, tags: dict | None = None, secrets: list | None = None) -> None:
    """One detached app for one call, as a launcher does it; `client.py` ends before the call does."""
    import plane_job

    app = modal.App("plane-test", tags=tags or {"kind": "test"})
    image = modal.Image.debian_slim(python_version="3.11").pip_install("numpy==2.3.0").env({"A": "b"})
    if "retries" in options:
        options["retries"] = modal.Retries(max_retries=options["retries"], initial_delay=0.0, backoff_coefficient=1.0)
    function = app.function(
        image=image.add_local_python_source("plane_job"),
        volumes={mount: modal.Volume.from_name(spec["volume"], create_if_missing=True)},
        secrets=[modal.Secret.from_name(name) for name in secrets or []],
        include_source=False,
        single_use_containers=True,
        max_containers=1,
        cpu=2.0,
        memory=1024,
        **options,
    )(plane_job.main)
    with app.run(detach=True):
        say(app=app.app_id)
        call = function.spawn({**spec, "at": mount})
        say(app=app.app_id, call=call.object_id, function=function.object_id)


def get(call: str, timeout: float | None = None) -> None:
    """The result, or the name of what was raised instead."""
    try:
        say(result=modal.FunctionCall.from_id(call).get(timeout=timeout))
    except Exception as error:
        say(raised=f"{type(error).__module__}.{type(error).__name__}", text=str(error))


def cancel(call: str, terminate: bool = False) -> None:
    modal.FunctionCall.from_id(call).cancel(terminate_containers=terminate)


def logs(call: str) -> None:
    since = datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=5)
    handle = modal.FunctionCall.from_id(call).logs
    tail = list(handle.tail(50))
    say(
        tail=[entry.message for entry in tail],
        sources=sorted({entry.source for entry in tail}),
        context=tail[0].context_ids,
        fetch=[entry.message for entry in handle.fetch(since=since, source="stdout")],
        stream=[entry.message for entry in handle.stream(timeout=3)],
    )


def attach(app: str, call: str) -> None:
    """What another machine can learn of a run by its ids alone."""
    looked_up = modal.App.lookup(app)
    info = looked_up.info(refresh=True)
    graph = modal.FunctionCall.from_id(call).get_call_graph()
    say(
        state=str(info.lifecycle.state),
        description=info.description,
        functions=sorted(info.functions),
        tags=looked_up.get_tags(),
        graph=[node.status.name for node in graph],
        logs=len(list(looked_up.logs.tail(20))),
    )


def stop(app: str) -> None:
    modal.App.lookup(app).stop()


def volume(name: str, version: int | None, local: str) -> None:
    """Everything that a launcher does to a volume from outside; `local` is a directory."""
    made = modal.Volume.from_name(name, create_if_missing=True, version=version)
    with made.batch_upload(force=True) as batch:
        batch.put_directory(local, "/data")
    listed = {entry.path: entry.size for entry in made.listdir("/", recursive=True) if entry.type.name == "FILE"}
    same = all(b"".join(made.read_file(path)) == (Path(local).parent / path).read_bytes() for path in listed)
    made.remove_file("/data/small.txt")
    try:
        list(made.read_file("/data/small.txt"))
    except FileNotFoundError as error:
        say(listed=listed, same=same, left=[entry.path for entry in made.listdir("/data")], gone=str(error))


def talk(name: str) -> None:
    channel = modal.Dict.from_name(name, create_if_missing=True)
    channel["stop"] = "please"
    say(got=channel.get("stop"), absent=channel.get("other"), length=channel.len(), popped=channel.pop("stop"))


def rates() -> None:
    say(rates={name: str(price) for name, price in modal.Workspace.from_context().billing.rates().items()})


def image(steps: list[dict]) -> None:
    """Build an image of runctl's recipe, as a launch would."""
    from runctl.backends.modal.image import build
    from runctl.backends.modal.recipe import Step

    app = modal.App("plane-image")
    made = build([Step(step["do"], tuple(step["words"]), step["options"]) for step in steps], ["runctl"])
    with app.run():
        made.build(app)


def cli(words: list[str]) -> None:
    """Modal's own command line."""
    sys.argv = ["modal", *words]
    try:
        runpy.run_module("modal", run_name="__main__")
    except SystemExit as ended:
        if ended.code:
            raise


def serve() -> None:
    """Each line: {"verb", "given", "environment", "out"}. The child writes out.txt, err.txt and, last, code."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        job = json.loads(line)
        child = os.fork()
        if child:
            print(child, flush=True)
            continue
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.environ.clear()
        os.environ.update(job["environment"])
        for name, descriptor in (("out.txt", 1), ("err.txt", 2)):
            os.dup2(os.open(Path(job["out"], name), os.O_WRONLY | os.O_CREAT, 0o600), descriptor)
        code = 1
        try:
            globals()[job["verb"]](**job["given"])
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            Path(job["out"], "code.new").write_text(str(code))
            Path(job["out"], "code.new").rename(Path(job["out"], "code"))
            os._exit(code)


if __name__ == "__main__":
    globals()[sys.argv[1]](**json.loads(sys.argv[2] if len(sys.argv) > 2 else "{}"))
