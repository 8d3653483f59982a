-- What was a task made from, over all references, back to the tasks that were given?
--
-- run: the run; ids are unique within one
-- id: id of the ancestor
-- task_id: the same as a number
-- steps: fewest references between the two
WITH RECURSIVE edges AS MATERIALIZED (  -- numbers only: runs by name would cost a third more
    SELECT hash(run) AS home, task_id, parent_id FROM raw.task_parents WHERE task_id <= id_number(task)
), found USING KEY (home, task_id) AS (
    SELECT DISTINCT home, parent_id AS task_id, 1 AS steps FROM edges WHERE task_id = id_number(task)
    UNION
    SELECT DISTINCT e.home, e.parent_id, f.steps + 1
    FROM found f
    JOIN edges e ON e.home = f.home AND e.task_id = f.task_id
    WHERE (e.home, e.parent_id) NOT IN (SELECT (home, task_id) FROM recurring.found)
)
SELECT run, id_text(task_id) AS id, task_id, steps
FROM found
JOIN (SELECT run, hash(run) AS home FROM raw.runs) USING (home)
ORDER BY run, steps, task_id
