"""Adapters: one file per config dialect, each mapping a file onto the facts that rules read.

An adapter offers `KIND` and `read(path, overrides, project, facts) -> Document`: it puts facts, or records why it
could not. `native` reads runctl's own configs, `native_dataset` the manifests that they name.
"""
