"""The api of headrace: HTTP, server-sent events and webhooks."""
