"""The test kit: given/when/then for deciders, virtual time, and a whole engine in one process."""
