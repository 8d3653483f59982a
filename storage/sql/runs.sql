-- Which runs lie below the root, and how far is each?
--
-- run: directory of the run
-- name: name it began with
-- seed: seed of all its draws
-- iterations: iterations whose update is sealed
-- stages_sealed: partitions sealed, the bootstrap included
-- state: running, idle, or damaged: left out of every other view
-- config_hash: hash of the config keys that a run may not change
-- ledger_hash: one hash over the content of all its partitions; equal for runs that computed the same
-- code_version: code that began it
-- parent: the run it was forked from; what it took from there is part of all counts and hashes here
-- forked_at: the first position that is its own
-- created: when it began, UTC
-- problem: what is wrong with a damaged run
WITH made AS (
    SELECT run, count(*) FILTER (stage = 'update' AND iteration > 0) AS iterations, count(*) AS stages_sealed,
           sha256(string_agg(
               position || ' ' || content || chr(10), '' ORDER BY iteration, round, stage_order(stage))) AS ledger_hash
    FROM raw.history
    GROUP BY ALL
)
SELECT r.run, r.name, r.seed,
       CASE WHEN r.problem IS NULL THEN coalesce(m.iterations, 0) END AS iterations,
       CASE WHEN r.problem IS NULL THEN coalesce(m.stages_sealed, 0) END AS stages_sealed,
       r.state, r.config_hash,
       CASE WHEN r.problem IS NULL THEN coalesce(m.ledger_hash, sha256('')) END AS ledger_hash,
       r.code_version, r.parent, r.forked_at, make_timestamp(r.created_us) AS created, r.problem
FROM raw.runs r
LEFT JOIN made m USING (run)
ORDER BY created, run
