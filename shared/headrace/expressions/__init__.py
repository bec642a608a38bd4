"""Expressions: CEL over a run's recorded values, and templates that hold them."""
