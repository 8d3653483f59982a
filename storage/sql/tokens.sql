-- The token ids and log-probabilities of one rollout.
--
-- run: the run
-- id: rollout_id as people write it
SELECT run, id_text(rollout_id) AS id, * EXCLUDE (run) FROM raw.tokens
