-- Where does each proposal come from, and what came of it? Along first references, so that every task has one line.
--
-- run: the run
-- id: task_id as people write it
-- task_id: the proposal
-- iteration: iteration of the proposal
-- mode: mode proposed
-- verdict: valid, or the word of the rejection
-- parent: the first reference it was shown; null for a task that was given
-- founder: the given task that its line of first references begins with
-- depth: steps from the founder
-- children: valid tasks whose first reference it was
-- descendants: valid tasks whose line of first references passes through it: the size of its family
WITH RECURSIVE first AS MATERIALIZED (
    SELECT p.run, p.task_id, p.parent_id, t.verdict = 'valid' AS valid
    FROM raw.task_parents p
    LEFT JOIN raw.tasks t ON t.run = p.run AND t.task_id = p.task_id
    WHERE p.position = 0
), line AS (
    SELECT run, task_id, valid, parent_id AS ancestor_id, 1 AS steps FROM first
    UNION ALL
    SELECT l.run, l.task_id, l.valid, f.parent_id, l.steps + 1
    FROM line l
    JOIN first f ON f.run = l.run AND f.task_id = l.ancestor_id
), back AS (
    SELECT run, task_id, max(steps) AS depth, max_by(ancestor_id, steps) AS founder_id,
           min_by(ancestor_id, steps) AS parent_id
    FROM line GROUP BY ALL
), family AS (
    SELECT run, ancestor_id AS task_id, count(*) FILTER (steps = 1) AS children, count(*) AS descendants
    FROM line WHERE valid GROUP BY ALL
)
SELECT run, id_text(task_id) AS id, task_id, iteration, mode, verdict, id_text(parent_id) AS parent,
       id_text(coalesce(founder_id, task_id)) AS founder, coalesce(depth, 0) AS depth,
       coalesce(children, 0) AS children, coalesce(descendants, 0) AS descendants
FROM raw.tasks
LEFT JOIN back USING (run, task_id)
LEFT JOIN family USING (run, task_id)
