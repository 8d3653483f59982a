-- One published policy: weights by hash, where they lie, and what is needed to train on.
--
-- run: the run
SELECT run, * EXCLUDE (run) FROM raw.checkpoints
