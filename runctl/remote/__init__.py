"""What runs inside a provider's container: `entry` is its program, `mirror` carries its files to the volume.

Both import nothing but the standard library until they run.
"""
