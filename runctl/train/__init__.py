"""The trainer: everything that runs inside an attempt with torch in it (`python -m runctl.train RUN_DIR --attempt N`).

This package imports nothing by itself: `schedule` is free of torch, so that estimates count steps as the loop does.
"""
