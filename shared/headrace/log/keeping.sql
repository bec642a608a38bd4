-- Queries about whole months, archives and copies, by name.

-- keep_alone --
-- Held by the session: one process at a time detaches, attaches or adopts.
select pg_advisory_lock(hashtext('headrace.keep'))

-- try_keep_alone --
select pg_try_advisory_lock(hashtext('headrace.keep'))
