-- One number about an update, in long form: names are open-ended.
--
-- run: the run
SELECT run, * EXCLUDE (run) FROM raw.update_metrics
