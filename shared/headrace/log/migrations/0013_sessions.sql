-- Owners are known to live by more than their lease: each beats on a session of its own, and says which. When its
-- process dies the kernel closes the session's socket, the session ends, and whoever beats next ends that owner's leases.
-- That is always safe, for an append of an older epoch is refused. Where it cannot be told (a pooler stands between, the
-- connection is half open, the process is only stopped, it began before this migration) a lease runs out as before.
--
-- A heartbeat writes the rows of its owner, and no longer those of its partitions: a partition is held until its owner's
-- lease is over and its own as well, which only those renew who take it.

-- Unlogged on purpose: after a crash or a failover all sessions are new, and this is empty; nobody is taken for dead who
-- had no time to come back. After an orderly restart, and in a copy, `server` tells.
create unlogged table headrace.sessions (
  owner text collate "C" primary key,
  server timestamptz not null,   -- since when the server runs that the session is of
  pid int not null,
  began timestamptz not null
);

-- Note the session that an owner beats on. A client that takes another process than ours for its server's talks to a
-- pooler, whose sessions outlive it or end before it: of those nothing is noted.
create function headrace.note_session(p_owner text, p_pid int) returns void language plpgsql as $$
declare
  v_began timestamptz;
begin
  if p_pid is distinct from pg_backend_pid() then
    delete from headrace.sessions where owner = p_owner;
    return;
  end if;
  select a.backend_start into v_began from pg_stat_activity a where a.pid = p_pid;
  insert into headrace.sessions as s values (p_owner, pg_postmaster_start_time(), p_pid, v_began)
    on conflict (owner) do update set server = excluded.server, pid = excluded.pid, began = excluded.began;
end $$;

-- Tell whether the session that an owner said last has ended. What may not be seen is taken to stand.
create function headrace.is_gone(p_owner text) returns boolean language plpgsql as $$
begin
  return exists (
    select from headrace.sessions s
      where s.owner = p_owner and s.server = pg_postmaster_start_time() and not exists (
        select from pg_stat_activity a where a.pid = s.pid and coalesce(a.backend_start = s.began, true)));
end $$;

-- End the leases of all owners of these logs, but for one, whose sessions have ended. An owner whose rows are locked is
-- beating just now; so it is looked at again once they are locked here. Nobody waits for another's rows.
create function headrace.end_gone(p_owner text, p_log text[], p_now bigint) returns void language plpgsql as $$
declare
  v_owner text;
begin
  for v_owner in
    select s.owner from headrace.sessions s
      where s.owner <> p_owner
        and (exists (select from headrace.owners o
               where o.log = any(p_log) and o.owner = s.owner and o.lease_until > p_now)
          or exists (select from headrace.partitions p
               where p.log = any(p_log) and p.owner = s.owner and p.lease_until > p_now))
      order by 1
  loop
    continue when not headrace.is_gone(v_owner);
    perform from headrace.owners o where o.owner = v_owner order by o.log for update skip locked;
    perform pg_stat_clear_snapshot();
    continue when not headrace.is_gone(v_owner);
    update headrace.owners o set lease_until = p_now
      where (o.log, o.owner) in (
        select l.log, l.owner from headrace.owners l where l.owner = v_owner and l.lease_until > p_now
          order by l.log for update skip locked);
    update headrace.partitions p set lease_until = p_now
      where (p.log, p.partition) in (
        select l.log, l.partition from headrace.partitions l where l.owner = v_owner and l.lease_until > p_now
          order by l.log, l.partition for update skip locked);
  end loop;
end $$;

-- How many partitions of a log an owner should hold: `headrace/log/shares.py` says the same, one suite holds both.
create or replace function headrace.share(p_log text, p_owner text, p_format int, p_now bigint) returns int
language plpgsql stable as $$
declare
  v_newest int;
  v_owners int;
  v_rank int;
  v_pool int;
begin
  select max(format) into v_newest from headrace.partitions where log = p_log;
  if not exists (select from headrace.owners where log = p_log and lease_until > p_now and format >= v_newest) then
    v_newest := 0;
  elsif p_format < v_newest then
    return (select count(*) from headrace.partitions where log = p_log and owner = p_owner);
  end if;
  select count(*), count(*) filter (where (o.since, o.owner) < (me.since, me.owner)) into v_owners, v_rank
    from headrace.owners o, headrace.owners me
    where o.log = p_log and o.lease_until > p_now and o.format >= v_newest and me.log = p_log and me.owner = p_owner;
  select count(*) into v_pool from headrace.partitions p
    where p.log = p_log and p.format <= p_format and not exists (
      select from headrace.owners o
        where o.log = p_log and o.owner = p.owner and o.lease_until > p_now and o.format < v_newest);
  return v_pool / v_owners + (v_rank < v_pool % v_owners)::int;
end $$;

-- Renew an owner's lease and claim its fair share. The first row (log null) says the time; then one a partition held.
-- Its plans are made once a connection: making them costs more than a heartbeat does.
-- `p_pid` is the server process that the caller believes to talk to; `p_fresh` says that it never beat there before.
create function headrace.heartbeat(
  p_owner text, p_log text[], p_format int[], p_lease_ms bigint, p_pid int, p_fresh boolean)
returns table (log text, partition int, epoch bigint, last_position bigint, surplus boolean, now_ms bigint, owners int,
               incarnation text)
language plpgsql set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_column
declare
  v_now bigint := headrace.now_ms();
  v_share int;
  v_held int;
  i int;
begin
  if not exists (select from headrace.meta where home = headrace.here()) then
    raise exception 'this database is a copy of another' using errcode = 'HR002';
  end if;
  insert into headrace.owners as o
    select l, p_owner, f, v_now, v_now + p_lease_ms from unnest(p_log, p_format) as u(l, f) order by l
    on conflict (log, owner) do update set
      format = excluded.format, lease_until = excluded.lease_until,
      since = case when o.lease_until > v_now then o.since else v_now end;
  if p_fresh or not exists (
    select from headrace.sessions s
      where s.owner = p_owner and s.pid = p_pid and s.pid = pg_backend_pid() and s.server = pg_postmaster_start_time()) then
    perform headrace.note_session(p_owner, p_pid);
  end if;
  perform headrace.end_gone(p_owner, p_log, v_now);
  return query select null::text, null::int, null::bigint, null::bigint, null::boolean, v_now,
    (select coalesce(max(n), 0)::int from (select count(*) as n from headrace.owners o
       where o.log = any(p_log) and o.lease_until > v_now group by o.log) c), m.incarnation from headrace.meta m;
  for i in 1 .. cardinality(p_log) loop
    v_share := headrace.share(p_log[i], p_owner, p_format[i], v_now);
    select count(*) into v_held from headrace.partitions p where p.log = p_log[i] and p.owner = p_owner;
    if v_held < v_share then
      update headrace.partitions p
        set owner = p_owner, epoch = p.epoch + 1, lease_until = v_now + p_lease_ms, format = greatest(p.format, p_format[i])
        where p.log = p_log[i] and p.partition in (
          select f.partition from headrace.partitions f
            where f.log = p_log[i] and f.lease_until <= v_now and f.format <= p_format[i] and not exists (
              select from headrace.owners o where o.log = f.log and o.owner = f.owner and o.lease_until > v_now)
            order by f.partition limit v_share - v_held for update skip locked);
    end if;
    return query select p.log, p.partition, p.epoch, p.last_position,
        row_number() over (order by p.partition) > v_share, v_now, 0, null::text
      from headrace.partitions p where p.log = p_log[i] and p.owner = p_owner order by p.partition;
  end loop;
end $$;

-- The heartbeat of processes that began before this migration, which tell of no session.
create or replace function headrace.heartbeat(p_owner text, p_log text[], p_format int[], p_lease_ms bigint)
returns table (log text, partition int, epoch bigint, last_position bigint, surplus boolean, now_ms bigint, owners int,
               incarnation text)
language sql as $$
  select * from headrace.heartbeat(p_owner, p_log, p_format, p_lease_ms, null, false)
$$;

-- Give partitions back; an owner that holds none of a log any more leaves it, so that shares are even at once.
create or replace function headrace.release(p_owner text, p_log text[], p_partition int[]) returns void
language plpgsql as $$
begin
  perform from headrace.partitions p join unnest(p_log, p_partition) as u(l, n) on p.log = l and p.partition = n
    where p.owner = p_owner order by p.log, p.partition for update of p;
  update headrace.partitions p set owner = null, lease_until = 0
    from unnest(p_log, p_partition) as u(l, n) where p.log = l and p.partition = n and p.owner = p_owner;
  delete from headrace.owners o where o.owner = p_owner and o.log = any(p_log) and not exists (
    select from headrace.partitions p where p.log = o.log and p.owner = p_owner);
  delete from headrace.sessions s where s.owner = p_owner and not exists (
    select from headrace.owners o where o.owner = p_owner);
end $$;

-- Forget owners whose leases have been over for long.
create function headrace.forget_owners(p_before bigint) returns void language sql as $$
  delete from headrace.owners where lease_until < p_before;
  delete from headrace.sessions s where not exists (select from headrace.owners o where o.owner = s.owner);
$$;
