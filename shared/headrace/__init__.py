"""Headrace: a spec becomes a plan, the plan is held at gates, run by workers, and proven by the log."""

__version__ = "0.1.0"
