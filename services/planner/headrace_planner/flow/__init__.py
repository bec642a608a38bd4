"""Keys that many runs share: how many may hold one, how many attempts may begin in a time, and in which order."""
