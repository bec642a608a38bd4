-- Every query of the log, by name. What owners call to write stands as functions in the migrations.

-- append --
select headrace.append($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)

-- append_lone --
select headrace.append_lone($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)

-- append_all --
select headrace.append_rest(headrace.append($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13), $14, $15, $16, $17,
  $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34, $35)

-- heartbeat --
select log, partition, epoch, last_position, surplus, now_ms, owners, incarnation
  from headrace.heartbeat($1, $2, $3, $4, $5, $6)

-- release --
select headrace.release($1, $2, $3)

-- attach_month --
select headrace.attach_month($1)

-- attach_months --
select headrace.attach_months()

-- forget_answers --
-- In slices, so that no call is long; gives how many went.
with gone as (
  delete from headrace.answers where ctid in (select ctid from headrace.answers where at < $1 order by at limit $2)
  returning 1)
select count(*) from gone

-- forget_owners --
select headrace.forget_owners($1)

-- now --
select headrace.now_ms()

-- read --
select log, partition, position, stream_id, version, type, schema, workspace, at, data, meta
  from headrace.events where log = $1 and partition = $2 and position > $3 order by position limit $4

-- stream --
-- A stream is of one log. That is looked at last: of a table that was never analyzed the planner takes the log's own
-- index to be as good as the streams', and reads the whole log.
select * from (
  select log, partition, position, stream_id, version, type, schema, workspace, at, data, meta
    from headrace.events where month = $1 and stream_id = $2 and version > $3 order by version limit $5) e
  where log = $4

-- purged --
-- The event with which a run's rows went: among its last, so it is looked for from the end.
select * from (
  select log, partition, position, stream_id, version, type, schema, workspace, at, data, meta
    from headrace.events where month = $1 and stream_id = $2 and type = $4 order by version desc limit 1) e
  where log = $3

-- whereabouts --
select month, state, at, streams, events, archive, fate from headrace.whereabouts($1, $2, $3)

-- histories --
-- Snapshots, without a position, and the events after them. Stream by stream, so that whatever the planner takes the log's
-- size to be it is never read from end to end.
with kept as materialized (
  select stream_id, version, body from headrace.snapshots where log = $1 and fingerprint = $2 and stream_id = any($4))
select $1 as log, 0 as partition, null::bigint as position, stream_id, version, '' as type, 0 as schema, '' as workspace,
       0::bigint as at, body as data, ''::bytea as meta
  from kept
union all
select e.* from unnest($3::int[], $4::text[]) as w(month, stream) left join kept on kept.stream_id = w.stream
  cross join lateral (
    select log, partition, position, stream_id, version, type, schema, workspace, at, data, meta from headrace.events
      where month = w.month and stream_id = w.stream and version > coalesce(kept.version, 0)
      offset 0) e
  where e.log = $1
  order by stream_id, version

-- keep_snapshots --
insert into headrace.snapshots (log, stream_id, fingerprint, version, body)
  select $1, stream_id, $2, version, body from unnest($3::text[], $4::int[], $5::bytea[]) as s(stream_id, version, body)
  on conflict (log, stream_id) do update set
    fingerprint = excluded.fingerprint, version = excluded.version, body = excluded.body

-- uses --
-- The newest stream of each address that is not over: only the time is not the same in their ids.
select w.address, one.id from unnest($1::text[]) as w(address)
  cross join lateral (
    select id from headrace.{table} where right(id, 16) = right(w.address, 16) and busy is not null order by id desc limit 1) one

-- answers --
-- Key by key, so that whatever the planner takes their number to be no answer is read that nobody asks for.
select a.* from unnest($1::text[], $2::int[], $3::text[]) as w(log, partition, key)
  cross join lateral (
    select log, partition, key, request_digest, stream_id, answer from headrace.answers
      where log = w.log and partition = w.partition and key = w.key and at > headrace.now_ms() - $4
      offset 0) a

-- keep_answer --
insert into headrace.answers as a values ($1, $2, $3, $4, $5, $6, headrace.now_ms())
  on conflict (log, partition, key) do update set
    request_digest = excluded.request_digest, stream_id = excluded.stream_id, answer = excluded.answer, at = excluded.at
    where a.at <= headrace.now_ms() - $7
      or (a.answer = '' and excluded.answer <> '' and a.request_digest = excluded.request_digest)
  returning true

-- due --
select id, wake_at from headrace.{table} where partition = any($1) and wake_at <= $2 and (wake_at, id) > ($4, $5)
order by wake_at, id limit $3

-- busy --
select id from headrace.{table} where partition = $1 and busy order by id

-- park --
insert into headrace.parked (source, error, body, at, stream_id) values ($1, $2, $3, $4, $5)

-- parked --
select source, error, body, at, id, stream_id from headrace.parked where $2::bigint[] is null or id = any($2)
  order by id desc limit $1

-- dismiss_parked --
delete from headrace.parked where id = any($1) returning id

-- put_blob --
with kept as (insert into headrace.blobs (digest, body, at) values ($1, $2, headrace.now_ms()) on conflict do nothing)
insert into headrace.blob_workspaces (workspace, digest)
  select owner, $1 from (values ($3::text)) as o(owner) where owner is not null on conflict do nothing

-- blobs_of --
select digest from headrace.blob_workspaces where workspace = $1 and digest = any($2)

-- get_blobs --
select digest, body from headrace.blobs where digest = any($1)

-- keep_lines --
select headrace.keep_lines($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)

-- read_lines --
select id, run_id, attempt_id, step, sequence, at, text, workspace, index, stream, level
  from headrace.lines where run_id = $1 and id > $2 order by id limit $3

-- rows --
select {columns} from headrace.{table} where {conditions} order by {order} limit {limit}

-- count --
select count(*) from headrace.{table} where {conditions}

-- row_streams --
select distinct {stream} from headrace.{table}

-- drop_rows --
delete from headrace.{table} t using headrace.partitions p
  where {conditions} and p.log = $1 and p.partition = $2 and p.epoch = $3

-- partitions --
-- A partition is held as long as its owner's lease is, or its own.
select p.log, p.partition, p.epoch, p.owner, greatest(p.lease_until, coalesce(o.lease_until, 0)) as lease_until, p.format,
       p.last_position, encode(p.hash, 'hex') as hash
  from headrace.partitions p left join headrace.owners o on o.log = p.log and o.owner = p.owner order by p.log, p.partition

-- links --
select first_position, last_position, leaves, hash
  from headrace.chain where log = $1 and partition = $2 and first_position > $3 order by first_position limit $4

-- streams --
select distinct stream_id from headrace.events where log = $1 and partition = $2 order by stream_id

-- meta --
select home, incarnation, headrace.here() as here from headrace.meta

-- works_with --
select works_with from headrace.meta

-- adopt --
select headrace.adopt()

-- schema_exists --
select to_regclass('headrace.migrations') is not null

-- make_migrations --
create schema if not exists headrace;
create table if not exists headrace.migrations (
  version int primary key, name text not null, checksum text not null, applied_at timestamptz not null default now()
)

-- applied_migrations --
select version, name, checksum from headrace.migrations order by version

-- record_migration --
insert into headrace.migrations (version, name, checksum) values ($1, $2, $3)

-- migration_lock --
select pg_advisory_xact_lock(hashtext('headrace.migrate'))

-- create_log --
select headrace.create_log($1, $2)

-- picked --
select * from unnest({arrays})

-- seize --
select epoch, last_position from headrace.seize($1, $2, $3, $4, $5)
