-- What an archived month held, so that a run or an approval of it is told from one that never was. A mark is the first
-- 8 bytes of a digest of stream, workspace and what became of it; marks stand sorted, by their first byte: 8 bytes a stream.

create table headrace.departed (
  month int not null references headrace.months on delete cascade,
  bucket int not null,
  marks bytea not null,
  primary key (month, bucket)
);
alter table headrace.departed alter column marks set storage external;

create function headrace.mark(p_stream text, p_workspace text, p_fate text) returns bytea language sql immutable
  return substr(sha256(convert_to(p_fate || E'\x1f' || p_workspace || E'\x1f' || p_stream, 'UTF8')), 1, 8);

-- Write down what a month holds whose table stands beside the log: each stream as archived, or as purged.
create function headrace.note_departed(p_month int) returns void language plpgsql as $$
begin
  delete from headrace.departed where month = p_month;
  execute format(
    'insert into headrace.departed (month, bucket, marks)'
    ' select %1$s, get_byte(mark, 0), string_agg(mark, '''' order by mark) from ('
    '   select headrace.mark(stream_id, min(workspace), case when bool_or(type = ''run.purged'') then ''purged'' else ''away'' end)'
    '     as mark from headrace.%2$I where version = 1 or type = ''run.purged'' group by stream_id) m group by 2',
    p_month, 'events_' || p_month);
end $$;

create function headrace.departed_as(p_month int, p_stream text, p_workspace text, p_fate text) returns boolean language sql stable
  return exists(
    select from headrace.departed d, headrace.mark(p_stream, p_workspace, p_fate) mark,
           lateral generate_series(1, length(d.marks), 8) place
      where d.month = p_month and d.bucket = get_byte(mark, 0) and substr(d.marks, place, 8) = mark);

-- Tell where the month of a stream is that left the log or leaves it, and what became of the stream: 'away' with its
-- month, 'purged' before, 'never' there (in this workspace); null: archived before marks were kept.
create function headrace.whereabouts(p_month int, p_stream text, p_workspace text)
returns table (month int, state text, at bigint, streams bigint, events bigint, archive text, fate text) language plpgsql as $$
declare
  v_fate text;
begin
  if not exists (select from headrace.months m where m.month = p_month and m.state <> 'restored') then
    return;
  end if;
  begin
    execute format(
      'select case when not coalesce(bool_or(version = 1 and workspace = $2), false) then ''never'''
      ' when bool_or(type = ''run.purged'') then ''purged'' else ''away'' end'
      ' from headrace.%I where month = %s and stream_id = $1', 'events_' || p_month, p_month)
      into v_fate using p_stream, p_workspace;
  exception when undefined_table then  -- it is archived, perhaps a moment ago
    v_fate := case
      when not exists (select from headrace.departed d where d.month = p_month) then null
      when headrace.departed_as(p_month, p_stream, p_workspace, 'away') then 'away'
      when headrace.departed_as(p_month, p_stream, p_workspace, 'purged') then 'purged'
      else 'never' end;
  end;
  return query select m.month, m.state, m.at, m.streams, m.events, m.archive, v_fate from headrace.months m
    where m.month = p_month;
end $$;
