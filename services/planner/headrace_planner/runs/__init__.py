"""The run: the pure core that decides what happens next in a run, and its projections."""
