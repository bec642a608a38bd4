"""Benchmarks: real processes, real servers, fsync on. `python -m benchmarks [NAME]`."""
