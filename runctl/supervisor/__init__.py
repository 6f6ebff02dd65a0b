"""The supervisor: the small torch-free process that owns an attempt from its first event to its exit record."""
