"""The tools of the runner: files, symbols and http."""
