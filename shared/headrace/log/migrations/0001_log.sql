-- The log itself: partitions and their owners, events by month, the chain, and what is kept beside them.
--
-- Times are milliseconds since 1970 on the database's clock. Texts compare by bytes (collate "C"), as ids sort.
-- Errors of our own: HR001 the log is append-only; HR002 another incarnation; HR003 a time ahead of the clock;
-- HR004 an append that does not follow.

create schema if not exists headrace;

create table headrace.meta (
  one boolean primary key default true check (one),
  home text not null,          -- the database this one believes to be: system identifier and database oid
  adoptions int not null default 0,
  incarnation text not null    -- home, and how often it was adopted; part of subjects and message ids
);

create table headrace.logs (
  name text collate "C" primary key,
  partitions int not null check (partitions between 1 and 256)
);

create table headrace.partitions (
  log text collate "C" not null references headrace.logs,
  partition int not null,
  epoch bigint not null default 0,
  owner text,
  lease_until bigint not null default 0,
  format int not null default 0,
  last_position bigint not null default 0,
  hash bytea not null default decode(repeat('00', 32), 'hex'),
  primary key (log, partition)
) with (fillfactor = 50);

create table headrace.owners (
  log text collate "C" not null references headrace.logs,
  owner text collate "C" not null,
  format int not null,
  since bigint not null,
  lease_until bigint not null,
  primary key (log, owner)
);

create table headrace.events (
  month int not null,          -- yyyymm in which the stream was created; 197001 for streams that never end
  log text collate "C" not null,
  partition int not null,
  position bigint not null,
  stream_id text collate "C" not null,
  version int not null,
  type text not null,
  schema int not null,
  workspace text not null,
  at bigint not null,
  data bytea not null,
  meta bytea not null,
  primary key (month, log, partition, position),
  unique (month, stream_id, version),
  constraint data_is_json check (convert_from(data, 'UTF8') is json),
  constraint meta_is_json check (convert_from(meta, 'UTF8') is json)
) partition by list (month);

create table headrace.chain (
  log text collate "C" not null,
  partition int not null,
  first_position bigint not null,
  last_position bigint not null,
  leaves bytea not null,       -- sha256 of each event, 32 bytes each, in order
  hash bytea not null,         -- sha256 of the hash before and the leaves
  primary key (log, partition, first_position)
);
alter table headrace.chain alter column leaves set storage external;

create table headrace.answers (
  log text collate "C" not null,
  partition int not null,
  key text collate "C" not null,
  request_digest text not null,
  stream_id text not null,
  answer bytea not null,
  at bigint not null,
  primary key (log, partition, key)
);
create index answers_at on headrace.answers (at);

create unlogged table headrace.snapshots (  -- a cache: a crash may empty it
  log text collate "C" not null,
  stream_id text collate "C" not null,
  fingerprint text not null,
  version int not null,
  body bytea not null,
  primary key (log, stream_id)
);

create table headrace.blobs (
  digest text collate "C" primary key,
  body bytea not null,
  at bigint not null
);
alter table headrace.blobs alter column body set storage external;

create table headrace.parked (
  id bigint generated always as identity primary key,
  source text not null,
  error text not null,
  body bytea not null,
  at bigint not null,
  stream_id text
);

create table headrace.lines (
  id bigint generated always as identity primary key,
  run_id text collate "C" not null,
  attempt_id text collate "C" not null,
  sequence int not null,
  step text not null,
  at bigint not null,
  text text not null,
  workspace text not null,
  index int,
  stream text not null,
  level text not null,
  unique (attempt_id, sequence)
);
create index lines_run on headrace.lines (run_id, id);
create index lines_run_at on headrace.lines (run_id, at);

create function headrace.now_ms() returns bigint language sql volatile as
$$ select floor(extract(epoch from clock_timestamp()) * 1000)::bigint $$;

create function headrace.here() returns text language sql stable as
$$ select c.system_identifier || '-' || d.oid from pg_control_system() c, pg_database d where d.datname = current_database() $$;

create function headrace.refuse() returns trigger language plpgsql as $$
begin
  raise exception '% on %.% is refused: the log is append-only', tg_op, tg_table_schema, tg_table_name
    using errcode = 'HR001';
end $$;

-- Statement triggers are not inherited by children, so each one gets its own; `always` holds for replicas too.
create function headrace.guard(p_table regclass) returns void language plpgsql as $$
begin
  execute format('create trigger append_only before update or delete or truncate on %s'
                 ' for each statement execute function headrace.refuse()', p_table);
  execute format('alter table %s enable always trigger append_only', p_table);
end $$;
select headrace.guard('headrace.events');
select headrace.guard('headrace.chain');

-- Attach a month, if it is not; made apart and then attached, so that appends go on meanwhile.
create function headrace.attach_month(p_month int) returns void language plpgsql as $$
declare
  v_name text := 'events_' || p_month;
begin
  if p_month % 100 not between 1 and 12 or p_month < 197001
     or p_month > to_char(now() at time zone 'utc' + interval '3 months', 'YYYYMM')::int then
    raise exception 'no events are kept for the month %', p_month using errcode = 'HR003';
  end if;
  if to_regclass('headrace.' || v_name) is not null then
    return;
  end if;
  perform pg_advisory_xact_lock(hashtext('headrace.attach_month'));
  if to_regclass('headrace.' || v_name) is not null then
    return;
  end if;
  execute format('create table headrace.%I (like headrace.events including all)', v_name);
  perform headrace.guard(('headrace.' || v_name)::regclass);
  execute format('alter table headrace.events attach partition headrace.%I for values in (%s)', v_name, p_month);
end $$;

create function headrace.attach_months() returns void language sql as $$
  select headrace.attach_month(197001);
  select headrace.attach_month(to_char(now() at time zone 'utc' + make_interval(months => n), 'YYYYMM')::int)
    from generate_series(0, 2) n;
$$;
select headrace.attach_months();

create function headrace.create_log(p_log text, p_partitions int) returns void language sql as $$
  insert into headrace.logs values (p_log, p_partitions) on conflict do nothing;
  insert into headrace.partitions (log, partition)
    select name, n from headrace.logs, generate_series(0, partitions - 1) n where name = p_log
    on conflict do nothing;
$$;

-- For people: bytes as jsonb, where jsonb can say them; else NUL shown as U+2400; else the text as one string.
create function headrace.readable(p_data bytea) returns jsonb language plpgsql immutable as $$
begin
  return convert_from(p_data, 'UTF8')::jsonb;
exception when others then
  begin
    return replace(convert_from(p_data, 'UTF8'), '\u0000', '\u2400')::jsonb;
  exception when others then
    return to_jsonb(encode(p_data, 'escape'));
  end;
end $$;

create view headrace.events_readable as
  select log, partition, position, stream_id, version, type, schema, workspace,
         to_timestamp(at / 1000.0) as at, headrace.readable(data) as data, headrace.readable(meta) as meta
    from headrace.events;

insert into headrace.meta (home, incarnation) values (headrace.here(), headrace.here());
