"""Models: networks in plain PyTorch, without a task in them."""
