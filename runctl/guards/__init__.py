"""Guards: conditions that flag or end a running run.

`grammar` reads a condition as people write it, `listing` makes the list of a run's guards (its own and the defaults)
as plain JSON for run.json, `words` says each in a sentence; the supervisor loads only `evaluate` and `watch`.
"""
