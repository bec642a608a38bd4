"""Every event of headrace: one module per log."""
