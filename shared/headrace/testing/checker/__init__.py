"""The checker: whether an installation kept its promises, read from its log, its clients and the outside ledger."""
