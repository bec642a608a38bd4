"""What each part of the hot path costs by itself: `make bench-micro`. Not part of the suite."""
