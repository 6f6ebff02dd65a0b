"""EN107: Modal does not have what the run asks for

## Why

A secret with a misspelt name is refused after the image was built; a volume with one is made on the way, empty, and
the run ends at its first window, on a GPU that is paid for. A token may have been revoked since it was stored.

## Fails

```yaml online
training: {steps: 100}
compute: {backend: modal, gpu: A100-80GB, cpu: 4, timeout: 1h}
```
```json modal
{"about": "token", "state": "ok"}
{"about": "secret", "state": "fault", "message": "Modal has no secret 'wnadb'", "hint": "modal secret create wnadb …"}
```

```yaml online
data: {encoded: data/encoded}
training: {steps: 100}
compute: {backend: modal, gpu: A100-80GB, cpu: 4, timeout: 1h}
```
```json modal
{"about": "token", "state": "ok"}
{"about": "dataset", "state": "ok", "manifest": {"kind": "encoded-dataset", "encoding_digest": "0"}}
```

## Passes

```yaml online
training: {steps: 100}
compute: {backend: modal, gpu: A100-80GB, cpu: 4, timeout: 1h}
```
```json modal
{"about": "token", "state": "ok"}
{"about": "volume", "state": "ok"}
```

## What to do

It is asked with `--online`, and by the launch of a run that has a dataset (`data.encoded`), before a GPU is asked for.
Asking makes nothing: token, environment, secrets, volume, and the dataset's
manifest on the volume, whose encoding must be the config's. Where Modal does not answer within ten seconds, what is
not known is said as not checked.
"""

from __future__ import annotations

from collections.abc import Iterable

from runctl.facts import Facts, Finding, NotChecked, Severity

SEVERITY: Severity = "error"
NATIVE = True


def check(facts: Facts) -> Iterable[Finding]:
    if facts.need("compute.backend") != "modal":
        return
    seen = facts.need("modal.online")
    for answer in seen.faults:
        at = "data.encoded" if answer.about == "dataset" else "compute.backend"
        yield Finding(answer.message, at=facts.place(at, "compute.backend"), fix=answer.hint)
    stored = (seen.manifest or {}).get("encoding_digest")
    if seen.manifest is not None and stored != facts.need("encoding.digest"):
        message = f"{facts.get('dataset.folder')} on the volume was encoded otherwise ({str(stored)[:12]}, not "
        message += f"{facts.need('encoding.digest')[:12]})"
        fix = "runctl data check says which keys; then encode and push the one that was meant"
        yield Finding(message, at="data.encoded", fix=fix)
    if not seen.faults and seen.unknown:
        raise NotChecked("; ".join(seen.unknown))
