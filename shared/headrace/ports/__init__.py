"""The ports that plug-ins implement: Tool, Gate, Integration, SecretStore."""
