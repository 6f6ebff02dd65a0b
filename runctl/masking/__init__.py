"""Secrets in what a run leaves behind: found in running text, hidden by as many asterisks.

`spans` finds them with detectors of its own, `known` has the values that the environment says are secret, `files`
hides them in a file where they stand, `library` adds the detectors of detect-secrets, `sweep` goes over an attempt that
has ended.
"""
