-- What was a task made from, over all references, back to the tasks that were given?
--
-- run: the run; ids are unique within one
-- id: id of the ancestor
-- task_id: the same as a number
-- steps: fewest references between the two
WITH RECURSIVE edges AS MATERIALIZED (
    SELECT run, task_id, parent_id FROM raw.task_parents WHERE task_id <= id_number(task)
), found USING KEY (run, task_id) AS (
    SELECT DISTINCT run, parent_id AS task_id, 1 AS steps FROM edges WHERE task_id = id_number(task)
    UNION
    SELECT DISTINCT e.run, e.parent_id, f.steps + 1
    FROM found f
    JOIN edges e ON e.run = f.run AND e.task_id = f.task_id
    WHERE (e.run, e.parent_id) NOT IN (SELECT (run, task_id) FROM recurring.found)
)
SELECT run, id_text(task_id) AS id, task_id, steps FROM found ORDER BY run, steps, task_id
