-- Whose a body is: kept once by its digest, it belongs to each workspace that put it. What an attempt may read follows
-- from this (a digest that somebody knows is no right to read).

create table headrace.blob_workspaces (
  workspace text collate "C" not null,
  digest text collate "C" not null references headrace.blobs on delete cascade,
  primary key (workspace, digest)
);
create index blob_workspaces_digest on headrace.blob_workspaces (digest);

create function pg_temp.digest_of(p_data bytea) returns text language plpgsql as $$
begin
  return convert_from(p_data, 'UTF8')::json #>> '{blob,digest}';
exception when untranslatable_character or invalid_text_representation or character_not_in_repertoire then
  return null;  -- json does not look into an event that holds NUL or a lone surrogate; such a one has no body apart
end $$;

insert into headrace.blob_workspaces (workspace, digest)
  select distinct workspace, digest from (
    select workspace, blob as digest from headrace.steps
    union all select workspace, blob from headrace.artifacts
    union all select workspace, pg_temp.digest_of(data) from headrace.events where type = 'step.succeeded'
  ) as named join headrace.blobs using (digest)
  on conflict do nothing;
