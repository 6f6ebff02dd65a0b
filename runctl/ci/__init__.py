"""What the GitHub Action of `action.yml` does, step by step, so that its scripts are one line each and tested here."""
