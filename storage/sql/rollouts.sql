-- One prompt and one completion, of either role.
--
-- run: the run
-- id: rollout_id as people write it
-- task: task_id as people write it
-- format: ok, or how the completion broke the format; null until it was judged
-- validity: verdict of the proposed task, or of the answer; null until it was judged
SELECT r.run, id_text(r.rollout_id) AS id, id_text(r.task_id) AS task, r.* EXCLUDE (run),
       coalesce(t.format, a.format) AS format, coalesce(t.verdict, a.verdict) AS validity
FROM raw.rollouts r
LEFT JOIN raw.tasks t ON t.run = r.run AND t.task_id = r.rollout_id
LEFT JOIN raw.answers a ON a.run = r.run AND a.rollout_id = r.rollout_id
