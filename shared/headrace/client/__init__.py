"""The client of the HTTP api: `from headrace.client.client import Client` (packages import nothing themselves)."""
