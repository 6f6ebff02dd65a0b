"""Estimates: parameters, peak memory, time and cost. Arithmetic only: no torch, no driver, no network."""
