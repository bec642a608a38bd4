"""The command line `headrace`, one module per noun."""
