-- What would another rule have changed? Means and changes of each rescored rule, by role and mode.
--
-- run: the run
-- rule: name it was rescored under
-- role: proposer or solver
-- mode: mode of the task
-- rewards: rewards compared
-- paid: mean reward paid
-- would_be: mean reward that would have been paid
-- changed: rewards that would have been others
-- verdicts_changed: answers with another verdict
SELECT run, rule, role, mode, count(*) AS rewards, avg(paid) AS paid, avg(would_be) AS would_be,
       count(*) FILTER (paid <> would_be) AS changed,
       count(*) FILTER (verdict IS DISTINCT FROM paid_verdict) AS verdicts_changed
FROM rescored
GROUP BY ALL
ORDER BY run, rule, role, mode
