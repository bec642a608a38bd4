-- In a rolling upgrade the schema comes first, and what still runs is older than it. Code whose own newest migration is at
-- least `works_with` may go on with this schema, and may start anew: what dies in the midst of an upgrade comes back as it
-- was, and a version can be taken back. A migration with which older code cannot work sets this to its own number.

alter table headrace.meta add column works_with int not null default 17;
