-- Children and waits: which run was made by which, and which runs a trigger's event is to be brought to. And an append that
-- keeps them. The appends of before stay: older processes call them.

create table headrace.children (
  id text collate "C" not null,
  workspace text collate "C",
  parent_id text collate "C",
  step text collate "C",
  item int,
  iteration int,
  attempt int,
  depth int,
  created_at bigint,
  primary key (id)
);
create index children_by_parent on headrace.children (parent_id, id);

create table headrace.waits (
  id text collate "C" not null,
  run_id text collate "C",
  step text collate "C",
  workspace text collate "C",
  name text collate "C",
  open boolean,
  primary key (id)
);
create index waits_by_name on headrace.waits (name, open, id);
create index waits_by_run on headrace.waits (run_id);

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
  p_flows_batch int[], p_flows headrace.flows[],
  p_children_batch int[], p_children headrace.children[],
  p_waits_batch int[], p_waits headrace.waits[]
) returns boolean[] language plpgsql as $$
declare
  v_good boolean[];
begin
  v_good := headrace.append(
    p_incarnation, p_log, p_partition, p_epoch, p_expected, p_e_batch, p_e_position, p_e_month, p_e_stream,
    p_e_version, p_e_type, p_e_schema, p_e_workspace, p_e_at, p_e_data, p_e_meta, p_a_batch, p_a_key,
    p_a_digest, p_a_stream, p_a_answer, p_b_digest, p_b_body, p_runs_batch, p_runs, p_steps_batch, p_steps,
    p_artifacts_batch, p_artifacts, p_approvals_batch, p_approvals, p_plans_batch, p_plans, p_workflows_batch,
    p_workflows, p_tools_batch, p_tools, p_tokens_batch, p_tokens, p_connections_batch, p_connections,
    p_flows_batch, p_flows);
  if cardinality(p_children_batch) > 0 then
    insert into headrace.children
      select (x.r).* from (select unnest(p_children_batch) as batch, unnest(p_children) as r) x where v_good[x.batch]
      on conflict (id) do update set (
      workspace, parent_id, step, item, iteration, attempt, depth, created_at)
      = (
      excluded.workspace, excluded.parent_id, excluded.step, excluded.item, excluded.iteration, excluded.attempt,
      excluded.depth, excluded.created_at);
  end if;
  if cardinality(p_waits_batch) > 0 then
    insert into headrace.waits
      select (x.r).* from (select unnest(p_waits_batch) as batch, unnest(p_waits) as r) x where v_good[x.batch]
      on conflict (id) do update set (
      run_id, step, workspace, name, open)
      = (
      excluded.run_id, excluded.step, excluded.workspace, excluded.name, excluded.open);
  end if;
  return v_good;
end $$;
