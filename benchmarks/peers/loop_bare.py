"""The loop as one writes it by hand: `bare` forward, backward, AdamW; `logged` with clip, schedule and a row of
metrics every LOG_EVERY steps; `accelerate` the same through accelerate's own calls, as its documentation has them.

    python loop_bare.py bare|logged|accelerate FILE
"""

from __future__ import annotations

import json
import sys
from typing import Any

import feed
import torch


def main(way: str, file: str) -> None:
    stream = feed.Feed()
    net = feed.model()
    optimizer: Any = torch.optim.AdamW(net.parameters(), lr=feed.RATE, weight_decay=feed.DECAY, fused=True)
    schedule: Any = torch.optim.lr_scheduler.LambdaLR(optimizer, feed.share)
    if way == "bare":
        bare(stream, net, optimizer)
    elif way == "logged":
        logged(stream, net, optimizer, schedule, file)
    else:
        accelerated(stream, net, optimizer, schedule, file)


def bare(stream: feed.Feed, net: Any, optimizer: Any) -> None:
    for batch in stream:
        feed.error(net, batch).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def logged(stream: feed.Feed, net: Any, optimizer: Any, schedule: Any, file: str) -> None:
    parameters = list(net.parameters())
    with open(file, "a", encoding="utf-8") as log:
        for step, batch in enumerate(stream, 1):
            loss = feed.error(net, batch)
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(parameters, feed.CLIP)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad(set_to_none=True)
            if step % feed.LOG_EVERY == 0:
                write(log, step, loss, norm, schedule.get_last_lr()[0])


def accelerated(stream: feed.Feed, net: Any, optimizer: Any, schedule: Any, file: str) -> None:
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    net, optimizer, schedule = accelerator.prepare(net, optimizer, schedule)
    with open(file, "a", encoding="utf-8") as log:
        for step, batch in enumerate(stream, 1):
            with accelerator.accumulate(net):
                loss = feed.error(net, batch)
                accelerator.backward(loss)
                norm = accelerator.clip_grad_norm_(net.parameters(), feed.CLIP)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad(set_to_none=True)
            if step % feed.LOG_EVERY == 0:
                write(log, step, loss, norm, schedule.get_last_lr()[0])


def write(log: Any, step: int, loss: Any, norm: Any, rate: float) -> None:
    log.write(json.dumps({"step": step, "loss": loss.item(), "grad_norm": norm.item(), "lr": rate}) + "\n")
    log.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
