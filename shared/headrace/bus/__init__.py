"""The bus: hints over NATS JetStream that may be lost, repeated, delayed or reordered."""
