-- What would each rollout have been paid by another rule, or after another verdict? The side tables of azr rescore.
--
-- run: the run
-- rule: name it was rescored under
-- iteration: iteration of the run
-- id: rollout_id as people write it
-- rollout_id: the rollout
-- role: proposer or solver
-- mode: mode of the task
-- task: task_id as people write it
-- task_id: the task proposed or solved
-- paid: the reward it was paid, which is sealed
-- would_be: the reward it would have been paid
-- paid_rung: which rung of the ladder decided
-- rung: which rung would have decided
-- paid_verdict: of a solver's answer, as sealed
-- verdict: of a solver's answer, judged again where the rule does so
-- accuracy: solver: share of checks passed, or 0 and 1, by config
-- solve_rate: proposer of a valid task: share of its probes judged correct
-- probes: proposer of a valid task: number of those probes
-- learnability: proposer of a valid task: the curve at solve_rate
-- ladder: the reward rule in words
-- code_version: code that rescored it
SELECT s.run, s.rule, s.iteration, id_text(s.rollout_id) AS id, s.rollout_id, s.role, s.mode,
       id_text(s.task_id) AS task, s.task_id, w.total AS paid, s.would_be, w.rung AS paid_rung, s.rung,
       a.verdict AS paid_verdict, s.verdict, s.accuracy, s.solve_rate, s.probes, s.learnability, s.ladder,
       s.code_version
FROM raw.rescored s
JOIN raw.rewards w USING (run, rollout_id)
LEFT JOIN raw.answers a USING (run, rollout_id)
