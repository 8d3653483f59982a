-- Which run is a fork of which? Each run with every run that it took its beginning from.
--
-- run: the run
-- ancestor: its parent, the parent's parent, and so on
-- at: first position that is not the ancestor's
-- depth: 1 for the parent
WITH RECURSIVE found AS (
    SELECT run, parent AS ancestor, forked_at AS at, 1 AS depth FROM raw.runs WHERE parent IS NOT NULL
    UNION ALL
    SELECT f.run, r.parent, r.forked_at, f.depth + 1
    FROM found f
    JOIN raw.runs r ON r.run = f.ancestor
    WHERE r.parent IS NOT NULL
)
FROM found ORDER BY run, depth
