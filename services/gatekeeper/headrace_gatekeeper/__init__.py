"""The gatekeeper of headrace: evaluates gates and owns approvals."""
