-- One solver rollout, parsed and judged.
--
-- run: the run
-- id: rollout_id as people write it
-- task: task_id as people write it
SELECT run, id_text(rollout_id) AS id, id_text(task_id) AS task, * EXCLUDE (run) FROM raw.answers
