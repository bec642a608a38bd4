-- What one partition appends by itself with a single step, as a lone run does: no arrays, so that the driver writes each
-- value as it is and no statement here unpacks any; and the partition is held, checked and moved on by one statement. The
-- append of 13 arguments stays, for all other appends and for processes that began before this migration.

-- Append for one partition at most two events, one answer, the row of a run that stands (p_moved), the row of a new one
-- (p_run) and the rows of two steps; null is what there is none of. True: it is written. False: the epoch or the expected
-- position is not the partition's. Null: an answer is kept, for p_kept_ms, under the key. In these cases nothing is
-- written. Anything else that is wrong fails the call. The `batch` of an event, an answer and a row is not looked at.
--
-- What is only to confirm that an epoch stands (neither events nor rows nor an answer) writes nothing, so that it need not
-- wait for the disk: it says what was so when it was asked, as a lock that ends with it would.
create function headrace.append_lone(
  p_incarnation text, p_log text, p_partition int, p_epoch bigint, p_expected bigint,
  p_first headrace.new_event, p_second headrace.new_event, p_answer headrace.new_answer, p_moved headrace.moved_run,
  p_run headrace.runs, p_step headrace.steps, p_other headrace.steps,
  p_kept_ms bigint
) returns boolean language plpgsql set plan_cache_mode = force_generic_plan as $$
declare
  v_now bigint := headrace.now_ms();
  v_home text;
  v_last bigint;
  v_leaves bytea;
  v_hash bytea;
  v_made int;
begin
  if p_first.position is not null then
    v_last := p_expected + 1;
    v_leaves := sha256(
      int8send(p_first.position) || int4send(p_first.version) || int4send(p_first.schema) || int8send(p_first.at)
      || int4send(octet_length(p_first.stream_id)) || convert_to(p_first.stream_id, 'UTF8')
      || int4send(octet_length(p_first.type)) || convert_to(p_first.type, 'UTF8')
      || int4send(octet_length(p_first.workspace)) || convert_to(p_first.workspace, 'UTF8')
      || int4send(length(p_first.data)) || p_first.data || int4send(length(p_first.meta)) || p_first.meta);
    if p_second.position is not null then
      v_last := p_expected + 2;
      v_leaves := v_leaves || sha256(
        int8send(p_second.position) || int4send(p_second.version) || int4send(p_second.schema) || int8send(p_second.at)
        || int4send(octet_length(p_second.stream_id)) || convert_to(p_second.stream_id, 'UTF8')
        || int4send(octet_length(p_second.type)) || convert_to(p_second.type, 'UTF8')
        || int4send(octet_length(p_second.workspace)) || convert_to(p_second.workspace, 'UTF8')
        || int4send(length(p_second.data)) || p_second.data || int4send(length(p_second.meta)) || p_second.meta);
    end if;
    update headrace.partitions p set last_position = v_last, hash = sha256(p.hash || v_leaves)
      where p.log = p_log and p.partition = p_partition and p.epoch = p_epoch and p.last_position = p_expected
      returning p.hash, (select incarnation from headrace.meta) into v_hash, v_home;
  elsif p_answer.key is null and p_moved.id is null and p_run.id is null and p_step.run_id is null then
    select (select incarnation from headrace.meta) into v_home
      from headrace.partitions p
      where p.log = p_log and p.partition = p_partition and p.epoch = p_epoch and p.last_position = p_expected;
  else
    select (select incarnation from headrace.meta) into v_home
      from headrace.partitions p
      where p.log = p_log and p.partition = p_partition and p.epoch = p_epoch and p.last_position = p_expected
      for update of p;
  end if;
  if v_home is distinct from p_incarnation then
    if coalesce(v_home, (select incarnation from headrace.meta)) is distinct from p_incarnation then
      raise exception 'the database is not the one this process opened' using errcode = 'HR002';
    end if;
    return false;
  end if;

  if p_answer.key is not null then
    insert into headrace.answers as a
      values (p_log, p_partition, p_answer.key, p_answer.request_digest, p_answer.stream_id, p_answer.answer, v_now)
      on conflict (log, partition, key) do update set
        request_digest = excluded.request_digest, stream_id = excluded.stream_id, answer = excluded.answer,
        at = excluded.at
        where a.at <= v_now - p_kept_ms;
    if not found then
      update headrace.partitions p set last_position = p_expected, hash = coalesce(
          (select c.hash from headrace.chain c where c.log = p_log and c.partition = p_partition
             order by c.first_position desc limit 1), decode(repeat('00', 32), 'hex'))
        where p.log = p_log and p.partition = p_partition and v_last is not null;
      return null;
    end if;
  end if;

  if p_first.position is not null then
    if p_first.position <> p_expected + 1 or p_second.position <> v_last then
      raise exception 'the positions of a batch do not follow' using errcode = 'HR004';
    end if;
    if greatest(p_first.at, p_second.at) > v_now + 60000 then
      raise exception 'an event lies in the future' using errcode = 'HR003';
    end if;
    if p_second.position is null then
      with linked as (
        insert into headrace.chain values (p_log, p_partition, v_last, v_last, v_leaves, v_hash))
      insert into headrace.events
        select p_first.month, p_log, p_partition, p_first.position, p_first.stream_id, p_first.version, p_first.type,
               p_first.schema, p_first.workspace, p_first.at, p_first.data, p_first.meta
          where p_first.version = 1 or p_first.version > 1 and exists (
            select from headrace.events b
              where b.month = p_first.month and b.stream_id = p_first.stream_id and b.version = p_first.version - 1);
    else
      with linked as (
        insert into headrace.chain values (p_log, p_partition, v_last - 1, v_last, v_leaves, v_hash))
      insert into headrace.events
        select v.* from (values
          (p_first.month, p_log, p_partition, p_first.position, p_first.stream_id, p_first.version, p_first.type,
           p_first.schema, p_first.workspace, p_first.at, p_first.data, p_first.meta),
          (p_second.month, p_log, p_partition, p_second.position, p_second.stream_id, p_second.version, p_second.type,
           p_second.schema, p_second.workspace, p_second.at, p_second.data, p_second.meta))
          as v (month, log, partition, position, stream_id, version, type, schema, workspace, at, data, meta)
          where v.version = 1 or v.version > 1 and (
            v.stream_id = p_first.stream_id and v.version = p_first.version + 1
            or exists (
              select from headrace.events b
                where b.month = v.month and b.stream_id = v.stream_id and b.version = v.version - 1));
    end if;
    get diagnostics v_made = row_count;
    if v_made <> v_last - p_expected then
      perform headrace.attach_month(month)  -- which refuses a month that left, where no version is found either
        from unnest(array[p_first.month, p_second.month]) as m (month) where month is not null;
      raise exception 'the versions of a stream do not follow' using errcode = 'HR004';
    end if;
  end if;

  if p_moved.id is not null then
    update headrace.runs r set
      version = p_moved.version, status = p_moved.status, waiting_for = p_moved.waiting_for,
      error_type = p_moved.error_type, error_message = p_moved.error_message,
      cancel_requested = p_moved.cancel_requested, started_at = p_moved.started_at, finished_at = p_moved.finished_at,
      steps_done = p_moved.steps_done, detail = p_moved.detail, wake_at = p_moved.wake_at, busy = p_moved.busy
      where r.id = p_moved.id;
  end if;

  if p_run.id is not null then
    insert into headrace.runs values
      (p_run.id, p_run.workspace, p_run.partition, p_run.version, p_run.kind, p_run.name, p_run.workflow,
       p_run.workflow_version, p_run.plan_digest, p_run.inputs_digest, p_run.status, p_run.waiting_for,
       p_run.error_type, p_run.error_message, p_run.attempt, p_run.retry_of, p_run.requester_id, p_run.requester_name,
       p_run.subject, p_run.stage, p_run.labels, p_run.cancel_requested, p_run.workers_active, p_run.created_at,
       p_run.started_at, p_run.finished_at, p_run.steps_total, p_run.steps_done, p_run.detail, p_run.wake_at,
       p_run.busy)
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

  if p_step.run_id is not null then
    if p_other.run_id is null then
      insert into headrace.steps values
        (p_step.run_id, p_step.step, p_step.workspace, p_step.ordinal, p_step.kind, p_step.status, p_step.attempt,
         p_step.attempt_id, p_step.worker, p_step.started_at, p_step.finished_at, p_step.items_total,
         p_step.items_done, p_step.items_failed, p_step.error_type, p_step.error_message, p_step.output, p_step.blob,
         p_step.output_bytes, p_step.detail)
        on conflict (run_id, step) do update set (
          workspace, ordinal, kind, status, attempt, attempt_id, worker, started_at, finished_at, items_total,
          items_done, items_failed, error_type, error_message, output, blob, output_bytes, detail)
          = (
          excluded.workspace, excluded.ordinal, excluded.kind, excluded.status, excluded.attempt, excluded.attempt_id,
          excluded.worker, excluded.started_at, excluded.finished_at, excluded.items_total, excluded.items_done,
          excluded.items_failed, excluded.error_type, excluded.error_message, excluded.output, excluded.blob,
          excluded.output_bytes, excluded.detail);
    else
      insert into headrace.steps values
        (p_step.run_id, p_step.step, p_step.workspace, p_step.ordinal, p_step.kind, p_step.status, p_step.attempt,
         p_step.attempt_id, p_step.worker, p_step.started_at, p_step.finished_at, p_step.items_total,
         p_step.items_done, p_step.items_failed, p_step.error_type, p_step.error_message, p_step.output, p_step.blob,
         p_step.output_bytes, p_step.detail),
        (p_other.run_id, p_other.step, p_other.workspace, p_other.ordinal, p_other.kind, p_other.status,
         p_other.attempt, p_other.attempt_id, p_other.worker, p_other.started_at, p_other.finished_at,
         p_other.items_total, p_other.items_done, p_other.items_failed, p_other.error_type, p_other.error_message,
         p_other.output, p_other.blob, p_other.output_bytes, p_other.detail)
        on conflict (run_id, step) do update set (
          workspace, ordinal, kind, status, attempt, attempt_id, worker, started_at, finished_at, items_total,
          items_done, items_failed, error_type, error_message, output, blob, output_bytes, detail)
          = (
          excluded.workspace, excluded.ordinal, excluded.kind, excluded.status, excluded.attempt, excluded.attempt_id,
          excluded.worker, excluded.started_at, excluded.finished_at, excluded.items_total, excluded.items_done,
          excluded.items_failed, excluded.error_type, excluded.error_message, excluded.output, excluded.blob,
          excluded.output_bytes, excluded.detail);
    end if;
  end if;

  return true;
end $$;
