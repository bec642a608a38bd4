-- What owners call: one round trip each, no transaction held by a client that may be paused.

-- Append for all partitions of a process at once. Batches are numbered from 1 by their place in p_log; every other array
-- says by `batch` which one its element belongs to. A batch whose epoch or expected position is not the partition's is
-- stale: it is skipped whole, and false at its place in the answer. Anything else that is wrong fails the whole call.
create function headrace.append(
  p_incarnation text, p_log text[], p_partition int[], p_epoch bigint[], p_expected bigint[],
  p_e_batch int[], p_e_position bigint[], p_e_month int[], p_e_stream text[], p_e_version int[], p_e_type text[],
  p_e_schema int[], p_e_workspace text[], p_e_at bigint[], p_e_data bytea[], p_e_meta bytea[],
  p_a_batch int[], p_a_key text[], p_a_digest text[], p_a_stream text[], p_a_answer bytea[],
  p_b_digest text[], p_b_body bytea[],
  p_runs_batch int[], p_runs headrace.runs[],
  p_steps_batch int[], p_steps headrace.steps[],
  p_artifacts_batch int[], p_artifacts headrace.artifacts[],
  p_approvals_batch int[], p_approvals headrace.approvals[],
  p_plans_batch int[], p_plans headrace.plans[],
  p_workflows_batch int[], p_workflows headrace.workflows[],
  p_tools_batch int[], p_tools headrace.tools[],
  p_tokens_batch int[], p_tokens headrace.tokens[],
  p_connections_batch int[], p_connections headrace.connections[]
) returns boolean[] language plpgsql as $$
declare
  v_good boolean[] := array_fill(false, array[cardinality(p_log)]);
  v_now bigint := headrace.now_ms();
  v_fits boolean;
  v_wanted int;
  v_made int;
  i int;
begin
  if not exists (select from headrace.meta where incarnation = p_incarnation) then
    raise exception 'the database is not the one this process opened' using errcode = 'HR002';
  end if;
  for i in select n from unnest(p_log, p_partition) with ordinality as b(log, partition, n) order by log, partition loop
    select epoch = p_epoch[i] and last_position = p_expected[i] into v_fits
      from headrace.partitions where log = p_log[i] and partition = p_partition[i] for update;
    v_good[i] := coalesce(v_fits, false);
  end loop;

  if cardinality(p_e_batch) > 0 then
    if exists (select from unnest(p_e_at) as at where at > v_now + 60000) then
      raise exception 'an event lies in the future' using errcode = 'HR003';
    end if;
    insert into headrace.events
      select month, p_log[batch], p_partition[batch], position, stream, version, type, schema, workspace, at, data, meta
        from unnest(p_e_batch, p_e_position, p_e_month, p_e_stream, p_e_version, p_e_type, p_e_schema, p_e_workspace,
                    p_e_at, p_e_data, p_e_meta)
          as e(batch, position, month, stream, version, type, schema, workspace, at, data, meta)
        where v_good[batch];
    if exists (
      select from (
        select month, stream, min(version) as first, max(version) - min(version) + 1 = count(*) as whole
          from unnest(p_e_batch, p_e_month, p_e_stream, p_e_version) as e(batch, month, stream, version)
          where v_good[batch] group by month, stream) s
      where not whole or first < 1 or (first > 1 and not exists (
        select from headrace.events e where e.month = s.month and e.stream_id = s.stream and e.version = s.first - 1))
    ) then
      raise exception 'the versions of a stream do not follow' using errcode = 'HR004';
    end if;
    with leaves as (
      select batch, position, sha256(
          int8send(position) || int4send(version) || int4send(schema) || int8send(at)
          || int4send(octet_length(stream)) || convert_to(stream, 'UTF8')
          || int4send(octet_length(type)) || convert_to(type, 'UTF8')
          || int4send(octet_length(workspace)) || convert_to(workspace, 'UTF8')
          || int4send(length(data)) || data || int4send(length(meta)) || meta) as leaf
        from unnest(p_e_batch, p_e_position, p_e_stream, p_e_version, p_e_type, p_e_schema, p_e_workspace, p_e_at,
                    p_e_data, p_e_meta)
          as e(batch, position, stream, version, type, schema, workspace, at, data, meta)
        where v_good[batch]),
    joined as (
      select batch, min(position) as first, max(position) as last, count(*) as size,
             string_agg(leaf, ''::bytea order by position) as leaves
        from leaves group by batch),
    linked as (
      insert into headrace.chain
        select p.log, p.partition, first, last, leaves, sha256(p.hash || leaves)
          from joined join headrace.partitions p on p.log = p_log[batch] and p.partition = p_partition[batch]
          where first = p.last_position + 1 and last = p.last_position + size
        returning *)
    update headrace.partitions p set last_position = linked.last_position, hash = linked.hash
      from linked where p.log = linked.log and p.partition = linked.partition;
    get diagnostics v_made = row_count;
    select count(distinct batch) into v_wanted from unnest(p_e_batch) as batch where v_good[batch];
    if v_made <> v_wanted then
      raise exception 'the positions of a batch do not follow' using errcode = 'HR004';
    end if;
  end if;

  if cardinality(p_a_batch) > 0 then
    insert into headrace.answers
      select p_log[batch], p_partition[batch], key, digest, stream, answer, v_now
        from unnest(p_a_batch, p_a_key, p_a_digest, p_a_stream, p_a_answer) as a(batch, key, digest, stream, answer)
        where v_good[batch]
      on conflict (log, partition, key) do update set
        request_digest = excluded.request_digest, stream_id = excluded.stream_id, answer = excluded.answer,
        at = excluded.at;
  end if;
  if cardinality(p_b_digest) > 0 then
    insert into headrace.blobs select digest, body, v_now from unnest(p_b_digest, p_b_body) as b(digest, body)
      on conflict do nothing;
  end if;

  if cardinality(p_runs_batch) > 0 then
    insert into headrace.runs
      select (x.r).* from (select unnest(p_runs_batch) as batch, unnest(p_runs) as r) x where v_good[x.batch]
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

  if cardinality(p_steps_batch) > 0 then
    insert into headrace.steps
      select (x.r).* from (select unnest(p_steps_batch) as batch, unnest(p_steps) as r) x where v_good[x.batch]
      on conflict (run_id, step) do update set (
      workspace, ordinal, kind, status, attempt, attempt_id, worker, started_at, finished_at, items_total,
      items_done, items_failed, error_type, error_message, output, blob, output_bytes, detail)
      = (
      excluded.workspace, excluded.ordinal, excluded.kind, excluded.status, excluded.attempt,
      excluded.attempt_id, excluded.worker, excluded.started_at, excluded.finished_at, excluded.items_total,
      excluded.items_done, excluded.items_failed, excluded.error_type, excluded.error_message, excluded.output,
      excluded.blob, excluded.output_bytes, excluded.detail);
  end if;

  if cardinality(p_artifacts_batch) > 0 then
    insert into headrace.artifacts
      select (x.r).* from (select unnest(p_artifacts_batch) as batch, unnest(p_artifacts) as r) x where v_good[x.batch]
      on conflict (id) do update set (
      workspace, run_id, step, item, attempt_id, type, label, value, body, blob, size_bytes, media_type,
      subject, created_at)
      = (
      excluded.workspace, excluded.run_id, excluded.step, excluded.item, excluded.attempt_id, excluded.type,
      excluded.label, excluded.value, excluded.body, excluded.blob, excluded.size_bytes, excluded.media_type,
      excluded.subject, excluded.created_at);
  end if;

  if cardinality(p_approvals_batch) > 0 then
    insert into headrace.approvals
      select (x.r).* from (select unnest(p_approvals_batch) as batch, unnest(p_approvals) as r) x where v_good[x.batch]
      on conflict (id) do update set (
      workspace, partition, version, subject, step, plan_digest, digest, shown, status, roles, quorum,
      decisions, requester_id, requester_name, reason, created_at, expires_at, closed_at, wake_at, busy)
      = (
      excluded.workspace, excluded.partition, excluded.version, excluded.subject, excluded.step,
      excluded.plan_digest, excluded.digest, excluded.shown, excluded.status, excluded.roles, excluded.quorum,
      excluded.decisions, excluded.requester_id, excluded.requester_name, excluded.reason, excluded.created_at,
      excluded.expires_at, excluded.closed_at, excluded.wake_at, excluded.busy);
  end if;

  if cardinality(p_plans_batch) > 0 then
    insert into headrace.plans
      select (x.r).* from (select unnest(p_plans_batch) as batch, unnest(p_plans) as r) x where v_good[x.batch]
      on conflict (id) do update set (
      workspace, partition, version, digest, name, kind, gated, "authorization", approval_id, decided_by, reason,
      created_at, created_by, wake_at, busy)
      = (
      excluded.workspace, excluded.partition, excluded.version, excluded.digest, excluded.name, excluded.kind,
      excluded.gated, excluded."authorization", excluded.approval_id, excluded.decided_by, excluded.reason,
      excluded.created_at, excluded.created_by, excluded.wake_at, excluded.busy);
  end if;

  if cardinality(p_workflows_batch) > 0 then
    insert into headrace.workflows
      select (x.r).* from (select unnest(p_workflows_batch) as batch, unnest(p_workflows) as r) x where v_good[x.batch]
      on conflict (id) do update set (
      workspace, name, kind, version, plan_digest, problems, spec, triggers, labels, updated_at, updated_by)
      = (
      excluded.workspace, excluded.name, excluded.kind, excluded.version, excluded.plan_digest,
      excluded.problems, excluded.spec, excluded.triggers, excluded.labels, excluded.updated_at,
      excluded.updated_by);
  end if;

  if cardinality(p_tools_batch) > 0 then
    insert into headrace.tools
      select (x.r).* from (select unnest(p_tools_batch) as batch, unnest(p_tools) as r) x where v_good[x.batch]
      on conflict (id) do update set (
      workspace, name, version, digest, kind, effect, access, pool, manifest, announced_at, worker)
      = (
      excluded.workspace, excluded.name, excluded.version, excluded.digest, excluded.kind, excluded.effect,
      excluded.access, excluded.pool, excluded.manifest, excluded.announced_at, excluded.worker);
  end if;

  if cardinality(p_tokens_batch) > 0 then
    insert into headrace.tokens
      select (x.r).* from (select unnest(p_tokens_batch) as batch, unnest(p_tokens) as r) x where v_good[x.batch]
      on conflict (id) do update set (
      workspace, name, roles, secret_hash, created_at, created_by, revoked_at)
      = (
      excluded.workspace, excluded.name, excluded.roles, excluded.secret_hash, excluded.created_at,
      excluded.created_by, excluded.revoked_at);
  end if;

  if cardinality(p_connections_batch) > 0 then
    insert into headrace.connections
      select (x.r).* from (select unnest(p_connections_batch) as batch, unnest(p_connections) as r) x where v_good[x.batch]
      on conflict (id) do update set (
      workspace, name, integration, settings, secrets, status, updated_at, updated_by, deleted)
      = (
      excluded.workspace, excluded.name, excluded.integration, excluded.settings, excluded.secrets,
      excluded.status, excluded.updated_at, excluded.updated_by, excluded.deleted);
  end if;

  return v_good;
end $$;

-- How many partitions of a log an owner should hold: `headrace/log/shares.py` says the same, one suite holds both.
create function headrace.share(p_log text, p_owner text, p_format int, p_now bigint) returns int
language plpgsql stable as $$
declare
  v_newest int;
  v_owners int;
  v_rank int;
  v_pool int;
begin
  select max(format) into v_newest from headrace.partitions where log = p_log;
  if not exists (select from headrace.owners where log = p_log and lease_until > p_now and format >= v_newest) then
    v_newest := 0;
  elsif p_format < v_newest then
    return (select count(*) from headrace.partitions where log = p_log and owner = p_owner);
  end if;
  select count(*), count(*) filter (where (o.since, o.owner) < (me.since, me.owner)) into v_owners, v_rank
    from headrace.owners o, headrace.owners me
    where o.log = p_log and o.lease_until > p_now and o.format >= v_newest and me.log = p_log and me.owner = p_owner;
  select count(*) into v_pool from headrace.partitions p
    where p.log = p_log and p.format <= p_format and not exists (
      select from headrace.owners o
        where o.log = p_log and o.owner = p.owner and o.lease_until > p_now and p.lease_until > p_now
          and o.format < v_newest);
  return v_pool / v_owners + (v_rank < v_pool % v_owners)::int;
end $$;

-- Renew an owner's leases and claim its fair share. The first row (log null) says the time; then one a partition held.
create function headrace.heartbeat(p_owner text, p_log text[], p_format int[], p_lease_ms bigint)
returns table (log text, partition int, epoch bigint, last_position bigint, surplus boolean, now_ms bigint, owners int,
               incarnation text)
language plpgsql as $$
#variable_conflict use_column
declare
  v_now bigint := headrace.now_ms();
  v_share int;
  v_held int;
  i int;
begin
  if not exists (select from headrace.meta where home = headrace.here()) then
    raise exception 'this database is a copy of another' using errcode = 'HR002';
  end if;
  insert into headrace.owners as o
    select l, p_owner, f, v_now, v_now + p_lease_ms from unnest(p_log, p_format) as u(l, f) order by l
    on conflict (log, owner) do update set
      format = excluded.format, lease_until = excluded.lease_until,
      since = case when o.lease_until > v_now then o.since else v_now end;
  perform from headrace.partitions p where p.owner = p_owner and p.log = any(p_log) order by p.log, p.partition for update;
  update headrace.partitions p set lease_until = v_now + p_lease_ms where p.owner = p_owner and p.log = any(p_log);
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
            where f.log = p_log[i] and (f.owner is null or f.lease_until <= v_now) and f.format <= p_format[i]
            order by f.partition limit v_share - v_held for update skip locked);
    end if;
    return query select p.log, p.partition, p.epoch, p.last_position,
        row_number() over (order by p.partition) > v_share, v_now, 0, null::text
      from headrace.partitions p where p.log = p_log[i] and p.owner = p_owner order by p.partition;
  end loop;
end $$;

-- Give partitions back; an owner that holds none of a log any more leaves it, so that shares are even at once.
create function headrace.release(p_owner text, p_log text[], p_partition int[]) returns void language plpgsql as $$
begin
  perform from headrace.partitions p join unnest(p_log, p_partition) as u(l, n) on p.log = l and p.partition = n
    where p.owner = p_owner order by p.log, p.partition for update of p;
  update headrace.partitions p set owner = null, lease_until = 0
    from unnest(p_log, p_partition) as u(l, n) where p.log = l and p.partition = n and p.owner = p_owner;
  delete from headrace.owners o where o.owner = p_owner and o.log = any(p_log) and not exists (
    select from headrace.partitions p where p.log = o.log and p.owner = p_owner);
end $$;

-- Make this copy a database of its own: owners of the original can do nothing here any more.
create function headrace.adopt() returns text language plpgsql as $$
begin
  update headrace.partitions set epoch = epoch + 1, owner = null, lease_until = 0;
  delete from headrace.owners;
  update headrace.meta set home = headrace.here(), adoptions = adoptions + 1,
    incarnation = headrace.here() || '-' || adoptions + 1;
  return (select incarnation from headrace.meta);
end $$;

-- Keep lines. One writer a run at a time, so that ids of one run become readable in their order and no reader skips one.
create function headrace.keep_lines(
  p_run text[], p_attempt text[], p_sequence int[], p_step text[], p_at bigint[], p_text text[], p_workspace text[],
  p_index int[], p_stream text[], p_level text[]
) returns int language plpgsql as $$
declare
  v_run text;
  v_made int;
begin
  for v_run in select distinct run collate "C" as run from unnest(p_run) as u(run) order by 1 loop
    perform pg_advisory_xact_lock(hashtext('headrace.lines'), hashtext(v_run));
  end loop;
  insert into headrace.lines (run_id, attempt_id, sequence, step, at, text, workspace, index, stream, level)
    select * from unnest(p_run, p_attempt, p_sequence, p_step, p_at, p_text, p_workspace, p_index, p_stream, p_level)
    on conflict (attempt_id, sequence) do nothing;
  get diagnostics v_made = row_count;
  return v_made;
end $$;

-- Take a partition from whoever holds it, or keep it longer when it is already ours: for a rebuild.
create function headrace.seize(p_owner text, p_log text, p_partition int, p_format int, p_lease_ms bigint)
returns table (epoch bigint, last_position bigint) language sql as $$
  update headrace.partitions p
    set owner = p_owner, lease_until = headrace.now_ms() + p_lease_ms,
        epoch = case when p.owner = p_owner then p.epoch else p.epoch + 1 end
    where p.log = p_log and p.partition = p_partition and p.format <= p_format
    returning p.epoch, p.last_position;
$$;
