-- Queries about whole months, archives and copies, by name.

-- keep_alone --
-- Held by the session: one process at a time detaches, attaches or adopts.
select pg_advisory_lock(hashtext('headrace.keep'))

-- months --
-- Every month that has a table or left: attached, detaching or standing beside the log; `state` null: open.
select coalesce(t.month, m.month) as month, m.state, m.at, m.streams, m.events, m.archive,
       t.month is not null as stands, coalesce(t.attached, false) as attached, coalesce(t.pending, false) as pending
  from (select substr(c.relname, 8)::int as month, i.inhrelid is not null as attached, i.inhdetachpending as pending
          from pg_class c left join pg_inherits i on i.inhrelid = c.oid
          where c.relnamespace = 'headrace'::regnamespace and c.relkind = 'r' and c.relname ~ '^events_\d{6}$') t
  full join headrace.months m on m.month = t.month
  order by 1

-- unfinished --
-- Streams of a log that were created in a month (between two ids) and are not over.
select id as stream_id, status from headrace.{table}
  where id >= $1 and id < $2 and not (status = any($3::text[]) and not coalesce(busy, false) and wake_at is null)
  order by id limit $4

-- unrested --
-- The same for streams that only end, of which `busy` is null then.
select id as stream_id, null as status from headrace.{table} where id >= $1 and id < $2 and busy is not null
  order by id limit $3

-- endless --
-- A stream of another log in a month: nobody can tell when it is over.
select stream_id from headrace.events_{month} where month = {month} and log = $1 limit 1

-- logs --
select name from headrace.logs order by name

-- rows_between --
select count(*) from headrace.{table} where id >= $1 and id < $2

-- streams_of_month --
-- Those that have a row: a purged run has none.
select log, count(*) filter (where version = 1) - count(*) filter (where type = 'run.purged') as streams
  from headrace.events_{month} where version = 1 or type = 'run.purged' group by log

-- close_month --
select headrace.close_month($1)

-- open_month --
select headrace.open_month($1)

-- let_into_month --
drop trigger if exists closed on headrace.events_{month}

-- count_month --
update headrace.months set events = $2, streams = $3 where month = $1

-- uncount_month --
-- Of a month that was brought back: 0 says so while it is closed, since what never was closed has no count.
update headrace.months set events = 0, streams = 0 where month = $1

-- note_month --
select headrace.note_month($1)

-- detach_month --
alter table headrace.events detach partition headrace.events_{month} concurrently

-- finish_detaching --
alter table headrace.events detach partition headrace.events_{month} finalize

-- reattach_month --
select headrace.reattach_month($1)

-- month_is --
update headrace.months set state = $2, at = headrace.now_ms(), archive = coalesce($3, archive) where month = $1

-- forget_rows --
delete from headrace.{table}
  where ctid = any(array(select ctid from headrace.{table} where {stream} >= $1 and {stream} < $2 limit $3))

-- note_departed --
select headrace.note_departed($1)

-- drop_month --
drop table headrace.events_{month}

-- make_month --
create table headrace.events_{month} (like headrace.events including all)

-- guard_month --
select headrace.guard('headrace.events_{month}')

-- bound_month --
alter table headrace.events_{month} add constraint one_month check (month is not null and month = {month})

-- unbound_month --
alter table headrace.events_{month} drop constraint one_month

-- events_of_month --
select position, stream_id, version, type, schema, workspace, at, data, meta
  from headrace.events_{month} where month = {month} and log = $1 and partition = $2 and position > $3
  order by position limit $4

-- places_of_month --
select distinct log, partition from headrace.events_{month} order by log, partition

-- archived --
select lower(r) as first, upper(r) - 1 as last
  from headrace.archived a, unnest(a.positions) r where log = $1 and partition = $2 order by 1

-- archived_places --
select log, partition, lower(r) as first, upper(r) - 1 as last
  from headrace.archived a, unnest(a.positions) r where month = $1 order by log, partition, 3

-- link_before --
select hash from headrace.chain where log = $1 and partition = $2 and last_position < $3
  order by first_position desc limit 1

-- links_between --
select first_position, last_position, leaves, hash from headrace.chain
  where log = $1 and partition = $2 and last_position >= $3 and first_position <= $4 and first_position > $5
  order by first_position limit $6

-- lines_between --
select id, run_id, attempt_id, sequence, step, at, text, workspace, index, stream, level
  from headrace.lines where run_id >= $1 and run_id < $2 and (run_id, id) > ($3, $4) order by run_id, id limit $5

-- blob_workspaces --
select workspace from headrace.blob_workspaces where digest = $1 order by workspace

-- bind_blob --
insert into headrace.blob_workspaces (workspace, digest) select unnest($2::text[]), $1 on conflict do nothing

-- suspect_blobs --
insert into headrace.blob_suspects select digest from headrace.blobs where at < $1

-- purged_of_month --
select stream_id from headrace.events_{month} where month = {month} and type = 'run.purged' order by stream_id

-- suspect_purged --
-- Bodies that purged runs name and that nobody put lately; never their plans, by which their events are read.
insert into headrace.blob_suspects
  select distinct b.digest from headrace.events_{month} e,
         regexp_matches(convert_from(e.data, 'UTF8'), 'sha256:[0-9a-f]{{64}}', 'g') m, headrace.blobs b
    where e.month = {month} and e.stream_id = any($1::text[]) and b.digest = m[1] and b.at < $2
  on conflict do nothing

-- acquit_plans --
delete from headrace.blob_suspects s using headrace.events_{month} e
  where e.month = {month} and e.stream_id = any($1::text[]) and e.version = 1
    and s.digest = convert_from(e.data, 'UTF8')::jsonb ->> 'plan_digest'

-- clear_suspects --
truncate headrace.blob_suspects

-- reach_of_month --
select log, partition, min(position) as first, max(position) as last from headrace.events_{month} group by log, partition

-- acquit_blobs --
with named as (
  select distinct m[1] as digest from headrace.events_{month} e,
         regexp_matches(convert_from(e.data, 'UTF8'), 'sha256:[0-9a-f]{{64}}', 'g') m
    where e.month = {month} and e.log = $1 and e.partition = $2 and e.position between $3 and $4
      and e.stream_id <> all($5::text[]))
delete from headrace.blob_suspects s using named where s.digest = named.digest

-- collect_blobs --
-- One that was put again since is wanted again.
with picked as (delete from headrace.blob_suspects where digest = any(array(
  select digest from headrace.blob_suspects limit $2)) returning digest)
delete from headrace.blobs b using picked where b.digest = picked.digest and b.at < $1 returning length(b.body) as size

-- suspects_left --
select count(*) from headrace.blob_suspects

-- keeper_lock_timeout --
set lock_timeout = {milliseconds}
