-- How do rewards develop? Mean, number and spread by run, iteration, role and mode.
SELECT run, iteration, role, mode,
       avg(total) AS mean, count(*) AS count, stddev_pop(total) AS deviation
FROM rewards
GROUP BY ALL
ORDER BY run, iteration, role, mode
