-- One proposal after validation: a valid task, or a rejection with its reason.
--
-- run: the run
-- id: task_id as people write it
-- input: the first of inputs
-- output: the first of outputs
SELECT run, id_text(task_id) AS id, * EXCLUDE (run), inputs[1] AS input, outputs[1] AS output FROM raw.tasks
