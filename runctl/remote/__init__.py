"""What runs inside a provider's container: `entry` is its program, `mirror` carries its files to the volume,
`listening` hears what is asked of it, `program` is for programs of one's own; `encoding` is the program of those that
encode replays.

They import nothing but the standard library until they run.
"""
