"""Run cards: what a run is for, what would stop it, who agreed, and what came of it, in Markdown that is held to."""
