"""A control plane on this machine's loopback, for which the unmodified modal client is a client like any other.

It is made of what `pip install modal` brings (grpclib, modal_proto, aiohttp) and of nothing of the client's own code
but its container entrypoint, which it runs as it is:

    with Plane(token_secret="...") as plane:
        subprocess.run([...], env=plane.environment())   # any program that uses modal
        plane.preempt()                                   # and trouble for it

Rooms: `server` answers RPCs and notes them in the `ledger`; `stores`, `apps`, `functions`, `calls`, `images`,
`volumes`, `logs`, `billing` answer one area each over what `state` holds; `containers` leads a call from container to
container, `boot` starts one as a process (`box` gives it its mounts, `copies` its private copy of every volume, `gpus`
its nvidia-smi; `processes` finds all that it started); `faults` and `web` (blobs, and `POST /control/VERB` for a test
in another process) do what they say; `quirks` are other readings of the protocol; `running` is the handle for tests,
`fixtures` are theirs, `clients` and `sample/` are client programs. `python -m plane` in tests/ runs one by hand;
`matrix` runs the tests under the lowest and the newest client.

What it proves: what the client sends, and that our side of the contract holds while a container is preempted, killed,
cancelled, timed out, retried, or while RPCs fail. What it does NOT prove, because only Modal can answer it:

- whether SIGINT goes to the container's program alone (here) or to all its processes (`interrupt_all=True`);
- whether a preemption of a spawned call uses up one of its retries (here: it does not);
- what a container notices of its own timeout (here: SIGKILL at once, or SIGINT and a grace with
  `timeout_signal="interrupt"`), and of App.stop (here: SIGINT and the grace, or `stop_signal="kill"`);
- the exact result of a cancelled call (here: GENERIC_STATUS_TERMINATED without text), and how long a container may
  take after a cancellation (here: as long as it likes);
- whether a detached app stops by itself after its last call (here: it stays);
- the failure rate at which a crashing container is given up (here: `crash_limit`), and how OOM is reported;
- when a result can be read: here at once, before the container's last commit, which is the worse case;
- when the next container starts while the last one still commits (here: after its end);
- that background commits come every few seconds (here: off unless `background_commit` is set) and whether such a
  commit can catch a file half written (here: it can);
- symbolic links on version 2 volumes (here: kept), limits on numbers of files, and quotas of any kind;
- how long logs are kept by which plan (here: `retention`), prices of memory, and any timing;
- that a timeout below 10 s is refused by the service (here: it is) and the exact words of its refusals;
- images: nothing is built, so a recipe that cannot be built passes. Containers run in this environment's Python.

Without root and without user namespaces a volume's mount path must lie where one may write (see `box`).
"""

from plane.running import Plane, state_name

__all__ = ["Plane", "state_name"]
