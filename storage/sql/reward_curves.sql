-- How do rewards develop? Mean, number and spread by iteration, role and mode.
--
-- run: the run
-- iteration: iteration of the run
-- role: proposer or solver
-- mode: mode of the task
-- mean: mean reward
-- count: rewards
-- deviation: their standard deviation
SELECT run, iteration, role, mode, avg(total) AS mean, count(*) AS count, stddev_pop(total) AS deviation
FROM raw.rewards
GROUP BY ALL
ORDER BY run, iteration, role, mode
