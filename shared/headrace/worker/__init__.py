"""Workers: the loop that takes orders from the bus, ToolRunner that performs them, and what both need."""
