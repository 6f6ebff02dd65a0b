#!/bin/sh
# The whole journey on simulated games: encode, preflight, launch, watch, account.
set -eu
step() { printf '\n\033[1m$ %s\033[0m\n' "$*" >&2; "$@"; }
config=configs/quickstart.yaml

echo "Demo: the games are simulated (a small two-player platform fighter), not real replays." >&2
step runctl encode "$config" --out data/demo
step runctl preflight "$config" --set data.encoded=data/demo
printf '\n\033[1m$ runctl launch %s --set data.encoded=data/demo --detach\033[0m\n' "$config" >&2
run=$(runctl launch "$config" --set data.encoded=data/demo --detach)
step runctl status "$run" --watch
cat >&2 <<END

Next: kill one and resume it:   runctl launch $config --detach; kill -9 its trainer; runctl status; runctl resume RUN
      your own replays:         runctl encode configs/melee-small.yaml --replays FOLDER; runctl launch configs/melee-small.yaml
      (these commands are in .venv/bin: . .venv/bin/activate)
END
