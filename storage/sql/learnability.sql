-- Are the tasks neither too easy nor too hard? A histogram of new valid tasks by solve rate.
--
-- run: the run
-- iteration: iteration of the run
-- mode: mode of the task
-- solve_rate: share of a task's probes that were judged correct
-- tasks: tasks with that solve rate
-- probes: answers that each solve rate was estimated from
-- learnability: mean learnability reward at that solve rate
SELECT run, iteration, mode, solve_rate, count(*) AS tasks, max(probes) AS probes, avg(learnability) AS learnability
FROM raw.rewards
WHERE role = 'proposer' AND solve_rate IS NOT NULL
GROUP BY ALL
ORDER BY run, iteration, mode, solve_rate
