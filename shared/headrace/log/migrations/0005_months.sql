-- Whole months leave the log once all their streams are over, and come back from an archive. The chain never leaves.
-- HR005 a month that is closed.

create table headrace.months (  -- months that are no longer open; one that is not named here is
  month int primary key,
  state text not null check (state in ('closed', 'detached', 'dropped', 'restored')),
  at bigint not null,          -- since when it is in this state
  streams bigint not null default 0,
  events bigint not null default 0,
  archive text                 -- the digest of the archive's manifest
);

-- The positions at which a month's events stand: what the chain vouches for while the log does not hold it.
create table headrace.archived (
  month int not null references headrace.months on delete cascade,
  log text collate "C" not null,
  partition int not null,
  positions int8multirange not null,
  primary key (month, log, partition)
);

create unlogged table headrace.blob_suspects (digest text collate "C" primary key);  -- while bodies are collected

create function headrace.refuse_closed() returns trigger language plpgsql as $$
begin
  raise exception 'the month % is closed: its streams are over (`headrace db restore` brings it back)', new.month
    using errcode = 'HR005';
end $$;

-- Let nothing more into a month: a moment's lock on this month alone. `open_month` undoes it.
create function headrace.close_month(p_month int) returns void language plpgsql as $$
begin
  execute format('create trigger closed before insert on headrace.%I for each row execute function headrace.refuse_closed()',
                 'events_' || p_month);
  execute format('alter table headrace.%I enable always trigger closed', 'events_' || p_month);
  insert into headrace.months (month, state, at) values (p_month, 'closed', headrace.now_ms())
    on conflict (month) do update set state = 'closed', at = excluded.at;
end $$;

create function headrace.open_month(p_month int) returns void language plpgsql as $$
begin
  execute format('drop trigger if exists closed on headrace.%I', 'events_' || p_month);
  delete from headrace.months where month = p_month;
end $$;

-- Write down where the events of a closed month stand.
create function headrace.note_month(p_month int) returns void language plpgsql as $$
begin
  execute format(
    'insert into headrace.archived select %s, log, partition, range_agg(int8range(position, position + 1))'
    ' from headrace.%I group by log, partition on conflict (month, log, partition) do update set positions = excluded.positions',
    p_month, 'events_' || p_month);
  execute format(
    'update headrace.months m set events = e.n, streams = e.streams'
    ' from (select count(*) as n, count(*) filter (where version = 1) as streams from headrace.%I) e where m.month = %s',
    'events_' || p_month, p_month);
end $$;

-- Put a month back whose table stands beside the log, with nothing in its way any more.
create function headrace.reattach_month(p_month int) returns void language plpgsql as $$
begin
  execute format('drop trigger if exists closed on headrace.%I', 'events_' || p_month);
  execute format('alter table headrace.events attach partition headrace.%I for values in (%s)', 'events_' || p_month, p_month);
  delete from headrace.archived where month = p_month;
  update headrace.months set state = 'restored', at = headrace.now_ms() where month = p_month;
end $$;

-- As before, but never for a month that left the log.
create or replace function headrace.attach_month(p_month int) returns void language plpgsql as $$
declare
  v_name text := 'events_' || p_month;
begin
  if p_month % 100 not between 1 and 12 or p_month < 197001
     or p_month > to_char(now() at time zone 'utc' + interval '3 months', 'YYYYMM')::int then
    raise exception 'no events are kept for the month %', p_month using errcode = 'HR003';
  end if;
  if exists (select from headrace.months where month = p_month and state <> 'restored') then
    raise exception 'the month % is closed: its streams are over (`headrace db restore` brings it back)', p_month
      using errcode = 'HR005';
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

-- A body that is put again is wanted again: its collection, which goes by `at`, must see that.
create function headrace.touch_blob() returns trigger language plpgsql as $$
begin
  update headrace.blobs set at = new.at where digest = new.digest and at < new.at - 3600000;
  return new;
end $$;
create trigger touch before insert on headrace.blobs for each row execute function headrace.touch_blob();
