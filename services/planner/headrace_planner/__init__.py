"""The planner of headrace: compiles specs into plans and decides what happens next."""
