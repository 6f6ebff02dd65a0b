"""Notices: who is told what happens to a run, by which service, in which words, and how it is sent.

`targets` reads who is told what, `words` says it, `sending` starts `send`, the only module that knows apprise, as a
process of its own; `lost` is for a run that has nobody left to tell of it.
"""
