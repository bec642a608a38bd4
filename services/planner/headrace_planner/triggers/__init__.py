"""Triggers: messages that start runs."""
