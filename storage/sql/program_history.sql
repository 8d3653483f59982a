-- How well is a program solved over time? Every answer to any task made of it, by iteration and mode.
--
-- run: the run
-- program_key: hash of the program text
-- example: id of the first task answered with that program
-- iteration: iteration of the answers
-- mode: mode of the tasks
-- tasks: tasks made of that program that were answered
-- answers: answers to them
-- correct: answers judged correct
-- solve_rate: correct of answers
WITH answered AS (
    SELECT t.run, t.program_key, t.mode, a.iteration, a.task_id, a.verdict
    FROM raw.answers a
    JOIN raw.tasks t ON t.run = a.run AND t.task_id = a.task_id
    WHERE t.program_key IS NOT NULL
), programs AS (
    SELECT run, program_key, min(task_id) AS example FROM answered GROUP BY ALL
)
SELECT run, program_key, id_text(any_value(example)) AS example, iteration, mode,
       count(DISTINCT task_id) AS tasks, count(*) AS answers, count(*) FILTER (verdict = 'correct') AS correct,
       correct / answers AS solve_rate
FROM answered
JOIN programs USING (run, program_key)
GROUP BY run, program_key, iteration, mode
ORDER BY run, min(example), iteration, mode
