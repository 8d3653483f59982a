-- Are the tasks neither too easy nor too hard? Valid new tasks by solve rate, with the mean learnability reward.
SELECT run, iteration, mode, solve_rate, count(*) AS tasks, any_value(probes) AS probes,
       avg(learnability) AS learnability
FROM rewards
WHERE role = 'proposer' AND solve_rate IS NOT NULL
GROUP BY ALL
ORDER BY run, iteration, mode, solve_rate
