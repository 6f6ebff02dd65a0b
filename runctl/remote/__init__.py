"""What runs inside a provider's container: `entry` is its program, `mirror` carries its files to the volume, `encoding`
is the program of those that encode replays.

They import nothing but the standard library until they run.
"""
