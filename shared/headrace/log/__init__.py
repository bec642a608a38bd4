"""The log: append-only partitions with one fenced owner each, and what is derived from them."""
