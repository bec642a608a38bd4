"""Compiling: a document and the catalogue of tools in, a plan or all problems out; pure."""
