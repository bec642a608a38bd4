-- A run shows the runs that retried it, or ran it again from a step.
create index runs_by_retry on headrace.runs (retry_of, id) where retry_of is not null;
