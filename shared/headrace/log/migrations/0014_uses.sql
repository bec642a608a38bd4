-- Streams of the log `flow` end, and begin anew under the same address: the last 16 characters of their ids, without the
-- time. A stream whose row is neither busy nor not is over.

create index flows_open on headrace.flows (right(id, 16)) where busy is not null;
