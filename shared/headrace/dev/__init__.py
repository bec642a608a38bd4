"""Embedded servers and the commands that run everything on one machine."""
