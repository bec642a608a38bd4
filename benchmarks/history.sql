-- Copies of runs that the product made ($1: their ids), $2 of each, under ids of their own that keep partition and time.
-- A benchmark's scratch database only: the copies' events stand before position 0 and belong to no chain.
insert into headrace.runs
  select (jsonb_populate_record(r, jsonb_build_object('id', left(r.id, 14) || substr(md5(r.id || n), 1, 14) || right(r.id, 2)))).*
    from headrace.runs r, generate_series(1, $2::int) n where r.id = any($1::text[]);
insert into headrace.steps
  select (jsonb_populate_record(s, jsonb_build_object('run_id', left(s.run_id, 14) || substr(md5(s.run_id || n), 1, 14) || right(s.run_id, 2)))).*
    from headrace.steps s, generate_series(1, $2::int) n where s.run_id = any($1::text[]);
insert into headrace.events
  select month, log, partition,
         (select least(min(position), 0) from headrace.events) - row_number() over (),
         left(stream_id, 14) || substr(md5(stream_id || n), 1, 14) || right(stream_id, 2),
         version, type, schema, workspace, at, data, meta
    from headrace.events, generate_series(1, $2::int) n where log = 'runs' and stream_id = any($1::text[]);
