"""`python -m plane` in tests/: a plane to try things on by hand, until Ctrl-C. Prints what to export."""

from __future__ import annotations

import time

from plane.running import Plane


def main() -> None:
    with Plane(background_commit=2.0) as plane:
        for name in ("MODAL_SERVER_URL", "MODAL_TOKEN_ID", "MODAL_TOKEN_SECRET", "MODAL_CONFIG_PATH", "PLANE_CONTROL"):
            print(f"export {name}={plane.environment()[name]}", flush=True)
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            print(plane.log())


if __name__ == "__main__":
    main()
