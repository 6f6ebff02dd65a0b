"""What preflight learns beside a config's own values: its text, its neighbours, the trainer's code, this machine."""
