-- A finished run that is purged loses its rows and what it printed in the very append of its event; its events stay with
-- their month. `headrace/log/tables.py` names the same tables (OF_A_RUN).

create function headrace.purge_run() returns trigger language plpgsql as $$
begin
  delete from headrace.steps where run_id = new.stream_id;
  delete from headrace.artifacts where run_id = new.stream_id;
  delete from headrace.children where id = new.stream_id;
  delete from headrace.waits where run_id = new.stream_id;
  delete from headrace.lines where run_id = new.stream_id;
  delete from headrace.snapshots where log = new.log and stream_id = new.stream_id;
  delete from headrace.runs where id = new.stream_id;
  return null;
end $$;
create trigger purge after insert on headrace.events for each row when (new.type = 'run.purged')
  execute function headrace.purge_run();
