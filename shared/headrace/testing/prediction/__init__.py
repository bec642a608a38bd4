"""What a document would do: its real graph walked by the real engine, with every performer replaced by a stub."""
