"""runctl takes an ML training run from a YAML file to an accounted-for result."""

__version__ = "0.1.0"
