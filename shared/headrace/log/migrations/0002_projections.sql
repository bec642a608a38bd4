-- Projections: tables derived from the log, rebuildable at any time. `headrace/log/tables.py` says the same; a test holds
-- the two together. JSON columns are `json`, not `jsonb`: they keep NUL escapes, lone surrogates and numbers as written.

create table headrace.runs (
  id text collate "C" not null,
  workspace text collate "C",
  partition int,
  version int,
  kind text collate "C",
  name text collate "C",
  workflow text collate "C",
  workflow_version int,
  plan_digest text collate "C",
  inputs_digest text collate "C",
  status text collate "C",
  waiting_for text collate "C",
  error_type text collate "C",
  error_message text collate "C",
  attempt int,
  retry_of text collate "C",
  requester_id text collate "C",
  requester_name text collate "C",
  subject text collate "C",
  stage text collate "C",
  labels json,
  cancel_requested boolean,
  workers_active boolean,
  created_at bigint,
  started_at bigint,
  finished_at bigint,
  steps_total int,
  steps_done int,
  detail json,
  wake_at bigint,
  busy boolean,
  primary key (id)
);
create index runs_wake on headrace.runs (partition, wake_at) where wake_at is not null;
create index runs_busy on headrace.runs (partition) where busy;

create table headrace.steps (
  run_id text collate "C" not null,
  step text collate "C" not null,
  workspace text collate "C",
  ordinal int,
  kind text collate "C",
  status text collate "C",
  attempt int,
  attempt_id text collate "C",
  worker text collate "C",
  started_at bigint,
  finished_at bigint,
  items_total int,
  items_done int,
  items_failed int,
  error_type text collate "C",
  error_message text collate "C",
  output json,
  blob text collate "C",
  output_bytes bigint,
  detail json,
  primary key (run_id, step)
);

create table headrace.artifacts (
  id text collate "C" not null,
  workspace text collate "C",
  run_id text collate "C",
  step text collate "C",
  item int,
  attempt_id text collate "C",
  type text collate "C",
  label text collate "C",
  value json,
  body json,
  blob text collate "C",
  size_bytes bigint,
  media_type text collate "C",
  subject text collate "C",
  created_at bigint,
  primary key (id)
);

create table headrace.approvals (
  id text collate "C" not null,
  workspace text collate "C",
  partition int,
  version int,
  subject text collate "C",
  step text collate "C",
  plan_digest text collate "C",
  digest text collate "C",
  shown json,
  status text collate "C",
  roles json,
  quorum int,
  decisions json,
  requester_id text collate "C",
  requester_name text collate "C",
  reason text collate "C",
  created_at bigint,
  expires_at bigint,
  closed_at bigint,
  wake_at bigint,
  busy boolean,
  primary key (id)
);
create index approvals_wake on headrace.approvals (partition, wake_at) where wake_at is not null;
create index approvals_busy on headrace.approvals (partition) where busy;

create table headrace.plans (
  id text collate "C" not null,
  workspace text collate "C",
  partition int,
  version int,
  digest text collate "C",
  name text collate "C",
  kind text collate "C",
  gated boolean,
  "authorization" text collate "C",
  approval_id text collate "C",
  decided_by json,
  reason text collate "C",
  created_at bigint,
  created_by text collate "C",
  wake_at bigint,
  busy boolean,
  primary key (id)
);
create index plans_wake on headrace.plans (partition, wake_at) where wake_at is not null;
create index plans_busy on headrace.plans (partition) where busy;

create table headrace.workflows (
  id text collate "C" not null,
  workspace text collate "C",
  name text collate "C",
  kind text collate "C",
  version int,
  plan_digest text collate "C",
  problems json,
  spec json,
  triggers json,
  labels json,
  updated_at bigint,
  updated_by text collate "C",
  primary key (id)
);

create table headrace.tools (
  id text collate "C" not null,
  workspace text collate "C",
  name text collate "C",
  version text collate "C",
  digest text collate "C",
  kind text collate "C",
  effect text collate "C",
  access text collate "C",
  pool text collate "C",
  manifest json,
  announced_at bigint,
  worker text collate "C",
  primary key (id)
);

create table headrace.tokens (
  id text collate "C" not null,
  workspace text collate "C",
  name text collate "C",
  roles json,
  secret_hash text collate "C",
  created_at bigint,
  created_by text collate "C",
  revoked_at bigint,
  primary key (id)
);

create table headrace.connections (
  id text collate "C" not null,
  workspace text collate "C",
  name text collate "C",
  integration text collate "C",
  settings json,
  secrets json,
  status text collate "C",
  updated_at bigint,
  updated_by text collate "C",
  deleted boolean,
  primary key (id)
);

create index runs_by_workspace on headrace.runs (workspace, id);
create index runs_by_status on headrace.runs (workspace, status, id);
create index runs_by_workflow on headrace.runs (workspace, workflow, id);
create index runs_by_subject on headrace.runs (workspace, subject, id) where subject is not null;
create index artifacts_by_run on headrace.artifacts (run_id);
create index artifacts_by_subject on headrace.artifacts (workspace, subject, id) where subject is not null;
create index approvals_by_status on headrace.approvals (workspace, status, id);
create index approvals_by_subject on headrace.approvals (subject);
create index tokens_by_secret on headrace.tokens (secret_hash);
