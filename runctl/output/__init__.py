"""How far a program is, read from what it prints: patterns for its lines, ready-made ones, and what they add up to."""
