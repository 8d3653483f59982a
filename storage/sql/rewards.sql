-- The reward of one rollout: the total, and the named parts it was computed from.
--
-- run: the run
-- id: rollout_id as people write it
-- task: task_id as people write it
SELECT run, id_text(rollout_id) AS id, id_text(task_id) AS task, * EXCLUDE (run) FROM raw.rewards
