-- A cheaper heartbeat at rest. Who holds all partitions of its logs, with no other living owner of any of them, has no
-- share to work out: nothing is claimed, handed over or ended then, and two statements tell so instead of six a log.

create or replace function headrace.heartbeat(
  p_owner text, p_log text[], p_format int[], p_lease_ms bigint, p_pid int, p_fresh boolean)
returns table (log text, partition int, epoch bigint, last_position bigint, surplus boolean, now_ms bigint, owners int,
               incarnation text)
language plpgsql set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_column
declare
  v_now bigint := headrace.now_ms();
  v_incarnation text;
  v_owners int;
  v_alone boolean;
  v_share int;
  v_held int;
  i int;
begin
  select m.incarnation into v_incarnation from headrace.meta m where m.home = headrace.here();
  if not found then
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
  select coalesce(max(n), 0), bool_and(mine) and not exists (
      select from headrace.partitions p where p.log = any(p_log) and p.owner is distinct from p_owner)
    into v_owners, v_alone
    from (select count(*) as n, bool_and(o.owner = p_owner) as mine from headrace.owners o
            where o.log = any(p_log) and o.lease_until > v_now group by o.log) c;
  if v_alone then  -- it holds everything, and nobody else is there whose lease could be ended or who could want a share
    now_ms := v_now;
    owners := v_owners;
    incarnation := v_incarnation;
    return next;
    return query select p.log, p.partition, p.epoch, p.last_position, false, v_now, 0, null::text
      from headrace.partitions p where p.log = any(p_log) order by p.log, p.partition;
    return;
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
