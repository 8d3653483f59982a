-- Why were proposals refused? By iteration, mode and verdict, with one example to look at.
--
-- run: the run
-- iteration: iteration of the run; 0 is the bootstrap
-- mode: mode proposed
-- verdict: the word of the rejection
-- format: how the text was broken, where that was the reason; else ok
-- count: proposals refused so
-- share: of all proposals of that mode and iteration
-- example: id of the first of them
-- example_reason: its reason in words
WITH counted AS (
    SELECT run, iteration, mode, verdict, format, count(*) AS count,
           min(task_id) AS example, min_by(reason, task_id) AS example_reason
    FROM raw.tasks
    GROUP BY ALL
), shared AS (
    SELECT *, count / sum(count) OVER (PARTITION BY run, iteration, mode) AS share FROM counted
)
SELECT run, iteration, mode, verdict, format, count, share, id_text(example) AS example, example_reason
FROM shared
WHERE verdict <> 'valid'
ORDER BY run, iteration, mode, count DESC, verdict, format
