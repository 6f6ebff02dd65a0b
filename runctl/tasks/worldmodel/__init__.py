"""The built-in job: predict the next frame of a two-player platform-fighter game."""
