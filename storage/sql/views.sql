-- The views that people and reports ask, over the relations `raw.<table>` (every sealed row of every run) and the
-- tables `runs`, `stages` and `attempts`. Every id stands beside its readable text: 12-ded-031, 0.2-ind-004, 12-abd-007:3.

CREATE VIEW rollouts AS
SELECT r.run, id_text(r.rollout_id) AS id, id_text(r.task_id) AS task,
       r.* EXCLUDE (run),
       coalesce(t.format, a.format) AS format,     -- ok, or how the completion broke the format
       coalesce(t.verdict, a.verdict) AS validity  -- of the proposed task, or of the answer; null until judged
FROM raw.rollouts r
LEFT JOIN raw.tasks t ON t.run = r.run AND t.task_id = r.rollout_id
LEFT JOIN raw.answers a ON a.run = r.run AND a.rollout_id = r.rollout_id;

CREATE VIEW tokens AS
SELECT run, id_text(rollout_id) AS id, * EXCLUDE (run) FROM raw.tokens;

CREATE VIEW tasks AS
SELECT run, id_text(task_id) AS id, * EXCLUDE (run), inputs[1] AS input, outputs[1] AS output FROM raw.tasks;

CREATE VIEW task_parents AS
SELECT run, id_text(task_id) AS id, id_text(parent_id) AS parent, * EXCLUDE (run) FROM raw.task_parents;

CREATE VIEW answers AS
SELECT run, id_text(rollout_id) AS id, id_text(task_id) AS task, * EXCLUDE (run) FROM raw.answers;

CREATE VIEW rewards AS
SELECT run, id_text(rollout_id) AS id, id_text(task_id) AS task, * EXCLUDE (run) FROM raw.rewards;

CREATE VIEW advantages AS
SELECT run, id_text(rollout_id) AS id, * EXCLUDE (run) FROM raw.advantages;

CREATE VIEW update_metrics AS SELECT * FROM raw.update_metrics;

CREATE VIEW checkpoints AS SELECT * FROM raw.checkpoints;

CREATE VIEW iterations AS
WITH made AS (
    SELECT run, iteration, count(*) AS stages_sealed, sum(seconds) AS seconds FROM stages GROUP BY ALL
), proposed AS (
    SELECT run, iteration, count(*) AS proposals FROM raw.rollouts WHERE role = 'proposer' GROUP BY ALL
), validated AS (
    SELECT run, iteration, count(*) FILTER (verdict = 'valid') AS valid FROM raw.tasks GROUP BY ALL
), answered AS (
    SELECT run, iteration, count(*) AS answers, avg((verdict = 'correct')::INTEGER) AS solver_accuracy
    FROM raw.answers GROUP BY ALL
), rewarded AS (
    SELECT run, iteration,
           avg(total) FILTER (role = 'proposer') AS proposer_reward, avg(total) FILTER (role = 'solver') AS solver_reward
    FROM raw.rewards GROUP BY ALL
)
SELECT run, iteration, stages_sealed, proposals, valid, answers, solver_accuracy, proposer_reward, solver_reward, seconds
FROM made
LEFT JOIN proposed USING (run, iteration)
LEFT JOIN validated USING (run, iteration)
LEFT JOIN answered USING (run, iteration)
LEFT JOIN rewarded USING (run, iteration);
