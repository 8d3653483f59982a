-- How did the updates go? The last optimizer step of each iteration: loss, gradient, entropy, ratios.
--
-- run: the run
-- iteration: iteration of the run
-- role: proposer, solver or all
-- mode: mode of the rollouts, or all
-- name: what is measured
-- value: its value
SELECT run, iteration, role, mode, name, arg_max(value, step) AS value
FROM raw.update_metrics
GROUP BY ALL
ORDER BY run, iteration, name, role, mode
