-- How do the reward curves of two runs differ?
--
-- iteration: iteration of both runs
-- role: proposer or solver
-- mode: mode of the task
-- mean_a: mean reward in the first run; null where it has none
-- mean_b: mean reward in the second run
-- difference: mean_b less mean_a
-- count_a: rewards behind mean_a
-- count_b: rewards behind mean_b
SELECT iteration, role, mode, a.mean AS mean_a, b.mean AS mean_b, b.mean - a.mean AS difference,
       a.count AS count_a, b.count AS count_b
FROM (FROM reward_curves WHERE run = run_a) a
FULL JOIN (FROM reward_curves WHERE run = run_b) b USING (iteration, role, mode)
ORDER BY iteration, role, mode
