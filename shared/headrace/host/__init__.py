"""The owner host: runs rooms (pure cores) over the log and the bus; the only writer of its partitions."""
