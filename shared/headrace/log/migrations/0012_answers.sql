-- An append that also knows what was answered before. Owners no longer read a command's key before they decide it: where
-- an answer is kept under one of the keys, the append writes nothing at all, and says so. What one partition appends by
-- itself, as a lone run does, has a shorter way. The append of 12 arguments stays, as a wrapper, for processes that began
-- before this migration.

-- Append for all partitions of a process at once. Batches are numbered from 1 by their place in p_log; everything else
-- says by `batch` which one it belongs to. A batch whose epoch or expected position is not the partition's is stale: it is
-- skipped whole, and false at its place in the answer. If an answer is kept, for p_kept_ms, under a key of a batch that is
-- not stale, all these batches are null in the answer, and nothing is written; without p_kept_ms it is written over.
-- Anything else that is wrong fails the whole call.
--
-- Plans are made once a connection, perhaps while tables are empty: the settings hold them to the indexes.
create function headrace.append(
  p_incarnation text, p_log text[], p_partition int[], p_epoch bigint[], p_expected bigint[],
  p_events headrace.new_event[], p_answers headrace.new_answer[], p_moved headrace.moved_run[],
  p_runs_batch int[], p_runs headrace.runs[],
  p_steps_batch int[], p_steps headrace.steps[],
  p_kept_ms bigint
) returns boolean[] language plpgsql
set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
  v_good boolean[];
  v_now bigint := headrace.now_ms();
  v_alone boolean := cardinality(p_log) = 1;
  v_home text;
  v_fits boolean;
  v_hash bytea;
  v_first bigint;
  v_last bigint;
  v_leaves bytea;
  v_latest bigint;
  v_month int;
  v_month_to int;
  v_months int[];
  v_wanted bigint;
  v_made bigint;
begin
  if v_alone then
    select p.epoch = p_epoch[1] and p.last_position = p_expected[1], p.hash, (select incarnation from headrace.meta)
      into v_fits, v_hash, v_home
      from headrace.partitions p where p.log = p_log[1] and p.partition = p_partition[1] for update of p;
    v_good := array[coalesce(v_fits, false)];
  else
    with asked as (
      select * from unnest(p_log, p_partition, p_epoch, p_expected) with ordinality as b (log, partition, epoch, expected, n)),
    held as (
      select a.n, p.epoch = a.epoch and p.last_position = a.expected as fits
        from asked a join headrace.partitions p on p.log = a.log and p.partition = a.partition
        order by p.log, p.partition for update of p)
    select coalesce(array_agg(coalesce(fits, false) order by n), '{}'), (select incarnation from headrace.meta)
      into v_good, v_home from asked left join held using (n);
  end if;
  if coalesce(v_home, (select incarnation from headrace.meta)) is distinct from p_incarnation then
    raise exception 'the database is not the one this process opened' using errcode = 'HR002';
  end if;

  if p_answers is not null then
    insert into headrace.answers as a
      select p_log[batch], p_partition[batch], key, request_digest, stream_id, answer, v_now
        from unnest(p_answers) where v_good[batch]
      on conflict (log, partition, key) do update set
        request_digest = excluded.request_digest, stream_id = excluded.stream_id, answer = excluded.answer,
        at = excluded.at
        where p_kept_ms is null or a.at <= v_now - p_kept_ms;
    get diagnostics v_made = row_count;
    if v_made < cardinality(p_answers) then
      select count(*) into v_wanted from unnest(p_answers) where v_good[batch];
      if v_made < v_wanted then  -- what was written over had expired, and may go; so may what is new
        delete from headrace.answers a using unnest(p_answers) n
          where a.log = p_log[n.batch] and a.partition = p_partition[n.batch] and a.key = n.key
            and a.xmin = pg_current_xact_id()::xid;
        return array(select nullif(good, true) from unnest(v_good) with ordinality as g (good, n) order by n);
      end if;
    end if;
  end if;

  if p_events is not null and v_alone and v_good[1] then
    with made as (
      insert into headrace.events
        select month, p_log[1], p_partition[1], position, stream_id, version, type, schema, workspace, at, data, meta
          from unnest(p_events)
        returning month, position, at, sha256(
          int8send(position) || int4send(version) || int4send(schema) || int8send(at)
          || int4send(octet_length(stream_id)) || convert_to(stream_id, 'UTF8')
          || int4send(octet_length(type)) || convert_to(type, 'UTF8')
          || int4send(octet_length(workspace)) || convert_to(workspace, 'UTF8')
          || int4send(length(data)) || data || int4send(length(meta)) || meta) as leaf)
    select min(position), max(position), count(*), max(at), min(month), max(month),
           string_agg(leaf, ''::bytea order by position)
      into v_first, v_last, v_made, v_latest, v_month, v_month_to, v_leaves from made;
    if v_first <> p_expected[1] + 1 or v_last <> p_expected[1] + v_made then
      raise exception 'the positions of a batch do not follow' using errcode = 'HR004';
    end if;
    v_months := case when v_month = v_month_to then array[v_month]
                else array(select distinct month from unnest(p_events)) end;
    v_hash := sha256(v_hash || v_leaves);
    with linked as (
      insert into headrace.chain values (p_log[1], p_partition[1], v_first, v_last, v_leaves, v_hash))
    update headrace.partitions p set last_position = v_last, hash = v_hash
      where p.log = p_log[1] and p.partition = p_partition[1];
  elsif p_events is not null and not v_alone then
    with made as (
      insert into headrace.events
        select month, p_log[batch], p_partition[batch], position, stream_id, version, type, schema, workspace, at, data, meta
          from unnest(p_events) where v_good[batch]
        returning month, log, partition, position, at, sha256(
          int8send(position) || int4send(version) || int4send(schema) || int8send(at)
          || int4send(octet_length(stream_id)) || convert_to(stream_id, 'UTF8')
          || int4send(octet_length(type)) || convert_to(type, 'UTF8')
          || int4send(octet_length(workspace)) || convert_to(workspace, 'UTF8')
          || int4send(length(data)) || data || int4send(length(meta)) || meta) as leaf),
    joined as (
      select log, partition, min(position) as first, max(position) as last, count(*) as size, max(at) as latest,
             string_agg(leaf, ''::bytea order by position) as leaves
        from made group by log, partition),
    linked as (
      insert into headrace.chain
        select p.log, p.partition, first, last, leaves, sha256(p.hash || leaves)
          from joined join headrace.partitions p using (log, partition)
          where first = p.last_position + 1 and last = p.last_position + size
        returning *),
    kept as (
      update headrace.partitions p set last_position = linked.last_position, hash = linked.hash
        from linked where p.log = linked.log and p.partition = linked.partition
        returning 1)
    select count(*), (select count(*) from kept), max(latest), (select array_agg(distinct month) from made)
      into v_wanted, v_made, v_latest, v_months from joined;
    if v_made <> v_wanted then
      raise exception 'the positions of a batch do not follow' using errcode = 'HR004';
    end if;
  end if;
  if v_latest > v_now + 60000 then
    raise exception 'an event lies in the future' using errcode = 'HR003';
  end if;
  foreach v_month in array coalesce(v_months, '{}') loop  -- by month, so that no other month is opened
    if exists (
      select from unnest(p_events) e where e.month = v_month and v_good[e.batch] and (e.version < 1 or e.version > 1 and (
        select 1 from headrace.events b
          where b.month = v_month and b.stream_id = e.stream_id and b.version = e.version - 1) is null)
    ) then
      raise exception 'the versions of a stream do not follow' using errcode = 'HR004';
    end if;
  end loop;

  if p_moved is not null then
    update headrace.runs r set
      version = m.version, status = m.status, waiting_for = m.waiting_for, error_type = m.error_type, error_message =
      m.error_message, cancel_requested = m.cancel_requested, started_at = m.started_at, finished_at = m.finished_at,
      steps_done = m.steps_done, detail = m.detail, wake_at = m.wake_at, busy = m.busy
      from unnest(p_moved) m where r.id = m.id and v_good[m.batch];
  end if;

  if p_runs is not null then
    insert into headrace.runs
      select
        id, workspace, partition, version, kind, name, workflow, workflow_version, plan_digest, inputs_digest, status,
        waiting_for, error_type, error_message, attempt, retry_of, requester_id, requester_name, subject, stage,
        labels, cancel_requested, workers_active, created_at, started_at, finished_at, steps_total, steps_done,
        detail, wake_at, busy
        from rows from (unnest(p_runs_batch), unnest(p_runs)) as u (batch,
          id, workspace, partition, version, kind, name, workflow, workflow_version, plan_digest, inputs_digest,
          status, waiting_for, error_type, error_message, attempt, retry_of, requester_id, requester_name, subject,
          stage, labels, cancel_requested, workers_active, created_at, started_at, finished_at, steps_total,
          steps_done, detail, wake_at, busy)
        where v_good[batch]
      on conflict (id) do update set (
        workspace, partition, version, kind, name, workflow, workflow_version, plan_digest, inputs_digest, status,
        waiting_for, error_type, error_message, attempt, retry_of, requester_id, requester_name, subject, stage,
        labels, cancel_requested, workers_active, created_at, started_at, finished_at, steps_total, steps_done,
        detail, wake_at, busy)
        = (
        excluded.workspace, excluded.partition, excluded.version, excluded.kind, excluded.name, excluded.workflow,
        excluded.workflow_version, excluded.plan_digest, excluded.inputs_digest, excluded.status,
        excluded.waiting_for, excluded.error_type, excluded.error_message, excluded.attempt, excluded.retry_of,
        excluded.requester_id, excluded.requester_name, excluded.subject, excluded.stage, excluded.labels,
        excluded.cancel_requested, excluded.workers_active, excluded.created_at, excluded.started_at,
        excluded.finished_at, excluded.steps_total, excluded.steps_done, excluded.detail, excluded.wake_at,
        excluded.busy);
  end if;

  if p_steps is not null then
    insert into headrace.steps
      select
        run_id, step, workspace, ordinal, kind, status, attempt, attempt_id, worker, started_at, finished_at,
        items_total, items_done, items_failed, error_type, error_message, output, blob, output_bytes, detail
        from rows from (unnest(p_steps_batch), unnest(p_steps)) as u (batch,
          run_id, step, workspace, ordinal, kind, status, attempt, attempt_id, worker, started_at, finished_at,
          items_total, items_done, items_failed, error_type, error_message, output, blob, output_bytes, detail)
        where v_good[batch]
      on conflict (run_id, step) do update set (
        workspace, ordinal, kind, status, attempt, attempt_id, worker, started_at, finished_at, items_total,
        items_done, items_failed, error_type, error_message, output, blob, output_bytes, detail)
        = (
        excluded.workspace, excluded.ordinal, excluded.kind, excluded.status, excluded.attempt, excluded.attempt_id,
        excluded.worker, excluded.started_at, excluded.finished_at, excluded.items_total, excluded.items_done,
        excluded.items_failed, excluded.error_type, excluded.error_message, excluded.output, excluded.blob,
        excluded.output_bytes, excluded.detail);
  end if;

  return v_good;
end $$;

-- As before, for processes that began before this migration: they read keys first, and know no refusal.
create or replace function headrace.append(
  p_incarnation text, p_log text[], p_partition int[], p_epoch bigint[], p_expected bigint[],
  p_events headrace.new_event[], p_answers headrace.new_answer[], p_moved headrace.moved_run[],
  p_runs_batch int[], p_runs headrace.runs[],
  p_steps_batch int[], p_steps headrace.steps[]
) returns boolean[] language plpgsql as $$
begin
  return headrace.append(p_incarnation, p_log, p_partition, p_epoch, p_expected, p_events, p_answers, p_moved,
                         p_runs_batch, p_runs, p_steps_batch, p_steps, null);
end $$;
