-- Why were proposals refused? Number by run, iteration, mode and verdict, with the share of that mode's proposals
-- and one example to look at. `format` says how the text was broken where that was the reason.
WITH counted AS (
    SELECT run, iteration, mode, verdict, format, count(*) AS count,
           min_by(id, task_id) AS example, min_by(reason, task_id) AS example_reason
    FROM tasks
    GROUP BY ALL
), shared AS (
    SELECT *, count / sum(count) OVER (PARTITION BY run, iteration, mode) AS share FROM counted
)
SELECT run, iteration, mode, verdict, format, count, share, example, example_reason
FROM shared
WHERE verdict <> 'valid'
ORDER BY run, iteration, mode, count DESC, verdict, format
