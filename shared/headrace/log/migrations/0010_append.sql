-- A shorter way to append. What nearly every append holds (events, answers, rows of runs and steps) goes by one function
-- of few arguments, each kind as one array of composites, null when there is none; the rest by a second one around it,
-- in the same statement. The append with 47 arrays stays, as a wrapper, for processes that began before this migration.

create type headrace.new_event as (
  batch int,
  position bigint,
  month int,
  stream_id text collate "C",
  version int,
  type text,
  schema int,
  workspace text,
  at bigint,
  data bytea,
  meta bytea
);

create type headrace.new_answer as (
  batch int,
  key text collate "C",
  request_digest text,
  stream_id text,
  answer bytea
);

-- What changes in a run's row once it is there; its other columns never do.
create type headrace.moved_run as (
  batch int,
  id text collate "C",
  version int,
  status text collate "C",
  waiting_for text collate "C",
  error_type text collate "C",
  error_message text collate "C",
  cancel_requested boolean,
  started_at bigint,
  finished_at bigint,
  steps_done int,
  detail json,
  wake_at bigint,
  busy boolean
);

-- A run's row changes with every batch of it, a step's once or twice: there is room for the next version on their page, so
-- that no index is touched unless an indexed column changes.
alter table headrace.runs set (fillfactor = 50);
alter table headrace.steps set (fillfactor = 70);

-- Append for all partitions of a process at once. Batches are numbered from 1 by their place in p_log; everything else
-- says by `batch` which one it belongs to. A batch whose epoch or expected position is not the partition's is stale: it is
-- skipped whole, and false at its place in the answer. Anything else that is wrong fails the whole call.
--
-- Plans are made once a connection, perhaps while tables are empty: the settings hold them to the indexes.
create function headrace.append(
  p_incarnation text, p_log text[], p_partition int[], p_epoch bigint[], p_expected bigint[],
  p_events headrace.new_event[], p_answers headrace.new_answer[], p_moved headrace.moved_run[],
  p_runs_batch int[], p_runs headrace.runs[],
  p_steps_batch int[], p_steps headrace.steps[]
) returns boolean[] language plpgsql
set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
  v_good boolean[];
  v_now bigint := headrace.now_ms();
  v_latest bigint;
  v_months int[];
  v_month int;
  v_wanted int;
  v_made int;
begin
  if not exists (select from headrace.meta where incarnation = p_incarnation) then
    raise exception 'the database is not the one this process opened' using errcode = 'HR002';
  end if;
  with asked as (
    select * from unnest(p_log, p_partition, p_epoch, p_expected) with ordinality as b (log, partition, epoch, expected, n)),
  held as (
    select a.n, p.epoch = a.epoch and p.last_position = a.expected as fits
      from asked a join headrace.partitions p on p.log = a.log and p.partition = a.partition
      order by p.log, p.partition for update of p)
  select coalesce(array_agg(coalesce(fits, false) order by n), '{}') into v_good from asked left join held using (n);

  if p_events is not null then
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
    if v_latest > v_now + 60000 then
      raise exception 'an event lies in the future' using errcode = 'HR003';
    end if;
    if v_made <> v_wanted then
      raise exception 'the positions of a batch do not follow' using errcode = 'HR004';
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
  end if;

  if p_answers is not null then
    insert into headrace.answers
      select p_log[batch], p_partition[batch], key, request_digest, stream_id, answer, v_now
        from unnest(p_answers) where v_good[batch]
      on conflict (log, partition, key) do update set
        request_digest = excluded.request_digest, stream_id = excluded.stream_id, answer = excluded.answer,
        at = excluded.at;
  end if;

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

-- What few appends hold, kept behind the others in the same statement: `p_good` is what the append gave.
create function headrace.append_rest(
  p_good boolean[], p_b_digest text[], p_b_body bytea[],
  p_artifacts_batch int[], p_artifacts headrace.artifacts[],
  p_approvals_batch int[], p_approvals headrace.approvals[],
  p_plans_batch int[], p_plans headrace.plans[],
  p_workflows_batch int[], p_workflows headrace.workflows[],
  p_tools_batch int[], p_tools headrace.tools[],
  p_tokens_batch int[], p_tokens headrace.tokens[],
  p_connections_batch int[], p_connections headrace.connections[],
  p_flows_batch int[], p_flows headrace.flows[],
  p_children_batch int[], p_children headrace.children[],
  p_waits_batch int[], p_waits headrace.waits[]
) returns boolean[] language plpgsql
set plan_cache_mode = force_generic_plan as $$
begin
  if p_b_digest is not null then
    insert into headrace.blobs select digest, body, headrace.now_ms() from unnest(p_b_digest, p_b_body) as b (digest, body)
      on conflict do nothing;
  end if;
  if p_artifacts is not null then
    insert into headrace.artifacts
      select (x.r).* from (select unnest(p_artifacts_batch) as batch, unnest(p_artifacts) as r) x where p_good[x.batch]
      on conflict (id) do update set (
        workspace, run_id, step, item, attempt_id, type, label, value, body, blob, size_bytes, media_type, subject,
        created_at)
        = (
        excluded.workspace, excluded.run_id, excluded.step, excluded.item, excluded.attempt_id, excluded.type,
        excluded.label, excluded.value, excluded.body, excluded.blob, excluded.size_bytes, excluded.media_type,
        excluded.subject, excluded.created_at);
  end if;
  if p_approvals is not null then
    insert into headrace.approvals
      select (x.r).* from (select unnest(p_approvals_batch) as batch, unnest(p_approvals) as r) x where p_good[x.batch]
      on conflict (id) do update set (
        workspace, partition, version, subject, step, plan_digest, digest, shown, status, roles, quorum, decisions,
        requester_id, requester_name, reason, created_at, expires_at, closed_at, wake_at, busy)
        = (
        excluded.workspace, excluded.partition, excluded.version, excluded.subject, excluded.step,
        excluded.plan_digest, excluded.digest, excluded.shown, excluded.status, excluded.roles, excluded.quorum,
        excluded.decisions, excluded.requester_id, excluded.requester_name, excluded.reason, excluded.created_at,
        excluded.expires_at, excluded.closed_at, excluded.wake_at, excluded.busy);
  end if;
  if p_plans is not null then
    insert into headrace.plans
      select (x.r).* from (select unnest(p_plans_batch) as batch, unnest(p_plans) as r) x where p_good[x.batch]
      on conflict (id) do update set (
        workspace, partition, version, digest, name, kind, gated, "authorization", approval_id, decided_by, reason,
        created_at, created_by, wake_at, busy)
        = (
        excluded.workspace, excluded.partition, excluded.version, excluded.digest, excluded.name, excluded.kind,
        excluded.gated, excluded."authorization", excluded.approval_id, excluded.decided_by, excluded.reason,
        excluded.created_at, excluded.created_by, excluded.wake_at, excluded.busy);
  end if;
  if p_workflows is not null then
    insert into headrace.workflows
      select (x.r).* from (select unnest(p_workflows_batch) as batch, unnest(p_workflows) as r) x where p_good[x.batch]
      on conflict (id) do update set (
        workspace, name, kind, version, plan_digest, problems, spec, triggers, labels, updated_at, updated_by)
        = (
        excluded.workspace, excluded.name, excluded.kind, excluded.version, excluded.plan_digest, excluded.problems,
        excluded.spec, excluded.triggers, excluded.labels, excluded.updated_at, excluded.updated_by);
  end if;
  if p_tools is not null then
    insert into headrace.tools
      select (x.r).* from (select unnest(p_tools_batch) as batch, unnest(p_tools) as r) x where p_good[x.batch]
      on conflict (id) do update set (
        workspace, name, version, digest, kind, effect, access, pool, manifest, announced_at, worker)
        = (
        excluded.workspace, excluded.name, excluded.version, excluded.digest, excluded.kind, excluded.effect,
        excluded.access, excluded.pool, excluded.manifest, excluded.announced_at, excluded.worker);
  end if;
  if p_tokens is not null then
    insert into headrace.tokens
      select (x.r).* from (select unnest(p_tokens_batch) as batch, unnest(p_tokens) as r) x where p_good[x.batch]
      on conflict (id) do update set (
        workspace, name, roles, secret_hash, created_at, created_by, revoked_at)
        = (
        excluded.workspace, excluded.name, excluded.roles, excluded.secret_hash, excluded.created_at,
        excluded.created_by, excluded.revoked_at);
  end if;
  if p_connections is not null then
    insert into headrace.connections
      select (x.r).* from (select unnest(p_connections_batch) as batch, unnest(p_connections) as r) x where p_good[x.batch]
      on conflict (id) do update set (
        workspace, name, integration, settings, secrets, status, updated_at, updated_by, deleted)
        = (
        excluded.workspace, excluded.name, excluded.integration, excluded.settings, excluded.secrets, excluded.status,
        excluded.updated_at, excluded.updated_by, excluded.deleted);
  end if;
  if p_flows is not null then
    insert into headrace.flows
      select (x.r).* from (select unnest(p_flows_batch) as batch, unnest(p_flows) as r) x where p_good[x.batch]
      on conflict (id) do update set (
        workspace, partition, version, kind, key, "limit", period_ms, held, queued, detail, updated_at, wake_at, busy)
        = (
        excluded.workspace, excluded.partition, excluded.version, excluded.kind, excluded.key, excluded."limit",
        excluded.period_ms, excluded.held, excluded.queued, excluded.detail, excluded.updated_at, excluded.wake_at,
        excluded.busy);
  end if;
  if p_children is not null then
    insert into headrace.children
      select (x.r).* from (select unnest(p_children_batch) as batch, unnest(p_children) as r) x where p_good[x.batch]
      on conflict (id) do update set (
        workspace, parent_id, step, item, iteration, attempt, depth, created_at)
        = (
        excluded.workspace, excluded.parent_id, excluded.step, excluded.item, excluded.iteration, excluded.attempt,
        excluded.depth, excluded.created_at);
  end if;
  if p_waits is not null then
    insert into headrace.waits
      select (x.r).* from (select unnest(p_waits_batch) as batch, unnest(p_waits) as r) x where p_good[x.batch]
      on conflict (id) do update set (
        run_id, step, workspace, name, open)
        = (
        excluded.run_id, excluded.step, excluded.workspace, excluded.name, excluded.open);
  end if;
  return p_good;
end $$;

-- As before, for processes that began before this migration: they know no other.
create or replace function headrace.append(
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
  p_connections_batch int[], p_connections headrace.connections[],
  p_flows_batch int[], p_flows headrace.flows[],
  p_children_batch int[], p_children headrace.children[],
  p_waits_batch int[], p_waits headrace.waits[]
) returns boolean[] language plpgsql as $$
declare
  v_events headrace.new_event[];
  v_answers headrace.new_answer[];
begin
  select array_agg(e::headrace.new_event) into v_events
    from unnest(p_e_batch, p_e_position, p_e_month, p_e_stream, p_e_version, p_e_type, p_e_schema, p_e_workspace,
                p_e_at, p_e_data, p_e_meta) e;
  select array_agg(a::headrace.new_answer) into v_answers
    from unnest(p_a_batch, p_a_key, p_a_digest, p_a_stream, p_a_answer) a;
  return headrace.append_rest(
    headrace.append(p_incarnation, p_log, p_partition, p_epoch, p_expected, v_events, v_answers, null, p_runs_batch,
                    p_runs, p_steps_batch, p_steps),
    p_b_digest, p_b_body,
    p_artifacts_batch, p_artifacts, p_approvals_batch, p_approvals, p_plans_batch, p_plans, p_workflows_batch,
    p_workflows, p_tools_batch, p_tools, p_tokens_batch, p_tokens, p_connections_batch, p_connections, p_flows_batch,
    p_flows, p_children_batch, p_children, p_waits_batch, p_waits);
end $$;
drop function headrace.append(
  text, text[], int[], bigint[], bigint[], int[], bigint[], int[], text[], int[], text[], int[], text[], bigint[], bytea[],
  bytea[], int[], text[], text[], text[], bytea[], text[], bytea[], int[], headrace.runs[], int[], headrace.steps[],
  int[], headrace.artifacts[], int[], headrace.approvals[], int[], headrace.plans[], int[], headrace.workflows[],
  int[], headrace.tools[], int[], headrace.tokens[], int[], headrace.connections[], int[], headrace.flows[]);
drop function headrace.append(
  text, text[], int[], bigint[], bigint[], int[], bigint[], int[], text[], int[], text[], int[], text[], bigint[], bytea[],
  bytea[], int[], text[], text[], text[], bytea[], text[], bytea[], int[], headrace.runs[], int[], headrace.steps[],
  int[], headrace.artifacts[], int[], headrace.approvals[], int[], headrace.plans[], int[], headrace.workflows[],
  int[], headrace.tools[], int[], headrace.tokens[], int[], headrace.connections[]);
