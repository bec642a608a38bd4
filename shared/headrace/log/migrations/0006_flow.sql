-- The log `flow`: its projection, and an append that keeps it. An existing database gains the log's partitions from
-- `migrate`, which makes the logs that are not there yet. The append of before stays: older processes call it.

create table headrace.flows (
  id text collate "C" not null,
  workspace text collate "C",
  partition int,
  version int,
  kind text collate "C",
  key text collate "C",
  "limit" int,
  period_ms bigint,
  held int,
  queued int,
  detail json,
  updated_at bigint,
  wake_at bigint,
  busy boolean,
  primary key (id)
);
create index flows_wake on headrace.flows (partition, wake_at) where wake_at is not null;
create index flows_busy on headrace.flows (partition) where busy;
create index flows_by_workspace on headrace.flows (workspace, id);

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
  p_connections_batch int[], p_connections headrace.connections[],
  p_flows_batch int[], p_flows headrace.flows[]
) returns boolean[] language plpgsql as $$
declare
  v_good boolean[];
begin
  v_good := headrace.append(
    p_incarnation, p_log, p_partition, p_epoch, p_expected, p_e_batch, p_e_position, p_e_month, p_e_stream,
    p_e_version, p_e_type, p_e_schema, p_e_workspace, p_e_at, p_e_data, p_e_meta, p_a_batch, p_a_key,
    p_a_digest, p_a_stream, p_a_answer, p_b_digest, p_b_body, p_runs_batch, p_runs, p_steps_batch, p_steps,
    p_artifacts_batch, p_artifacts, p_approvals_batch, p_approvals, p_plans_batch, p_plans, p_workflows_batch,
    p_workflows, p_tools_batch, p_tools, p_tokens_batch, p_tokens, p_connections_batch, p_connections);
  if cardinality(p_flows_batch) > 0 then
    insert into headrace.flows
      select (x.r).* from (select unnest(p_flows_batch) as batch, unnest(p_flows) as r) x where v_good[x.batch]
      on conflict (id) do update set (
      workspace, partition, version, kind, key, "limit", period_ms, held, queued, detail, updated_at, wake_at, busy)
      = (
      excluded.workspace, excluded.partition, excluded.version, excluded.kind, excluded.key, excluded."limit",
      excluded.period_ms, excluded.held, excluded.queued, excluded.detail, excluded.updated_at, excluded.wake_at,
      excluded.busy);
  end if;
  return v_good;
end $$;
