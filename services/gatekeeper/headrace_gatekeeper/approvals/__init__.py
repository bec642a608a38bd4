"""Approvals: who may decide, how many must, until when, and on exactly what."""
