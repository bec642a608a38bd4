"""Specs: the YAML or JSON documents that people write, read with the place of every mistake."""
