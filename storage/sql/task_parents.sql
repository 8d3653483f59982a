-- One reference that a proposal was shown (for induction: the task whose program it was given).
--
-- run: the run
-- id: task_id as people write it
-- parent: parent_id as people write it
SELECT run, id_text(task_id) AS id, id_text(parent_id) AS parent, * EXCLUDE (run) FROM raw.task_parents
