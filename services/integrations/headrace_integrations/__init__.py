"""The integrations of headrace: outside systems, and the secrets they need."""
