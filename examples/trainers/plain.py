"""A small training program that knows nothing of runctl: it prints where it is, saves what it has, and can go on.

python plain.py --steps 200 --out out            from the start
python plain.py --steps 200 --out out --resume out/ckpt-120.pt
"""

import argparse
import os
import time
from pathlib import Path

import torch
from torch import nn

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=200)
parser.add_argument("--lr", type=float, default=0.05)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--out", type=Path, default=Path("out"))
parser.add_argument("--resume", type=Path)
parser.add_argument("--pause", type=float, default=0.0, help="seconds between two steps")
given = parser.parse_args()

torch.manual_seed(given.seed)
torch.set_num_threads(1)
inputs = torch.randn(512, 8)
targets = torch.sin(inputs.sum(dim=1, keepdim=True))
model = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=given.lr)
first = 1
if given.resume:
    saved = torch.load(given.resume, weights_only=True)
    model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    first = saved["step"] + 1
    print(f"going on from {given.resume}", flush=True)

given.out.mkdir(parents=True, exist_ok=True)
for step in range(first, given.steps + 1):
    loss = nn.functional.mse_loss(model(inputs[:448]), targets[:448])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 10 == 0:
        print(f"step {step}/{given.steps} loss {loss.item():.4f}", flush=True)
    if step % 20 == 0:
        with torch.no_grad():
            held_out = nn.functional.mse_loss(model(inputs[448:]), targets[448:]).item()
        print(f"held out: loss {held_out:.4f}", flush=True)
        part = given.out / "part.tmp"
        torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}, part)
        os.replace(part, given.out / f"ckpt-{step}.pt")
    time.sleep(given.pause)
