"""The database's schema: one SQL file a step, applied in order and never changed after a release."""
