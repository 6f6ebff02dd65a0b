"""One edit of a YAML text by position, and the fixes that are made of such edits."""
