-- What the update made of one reward; never stored in the reward.
--
-- run: the run
-- id: rollout_id as people write it
SELECT run, id_text(rollout_id) AS id, * EXCLUDE (run) FROM raw.advantages
