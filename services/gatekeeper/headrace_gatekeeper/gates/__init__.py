"""The gates that headrace brings: pure checks over recorded artifacts and events."""
