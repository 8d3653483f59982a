-- Does the model repeat itself? Different and new programs among the proposals of each iteration and mode.
--
-- run: the run
-- iteration: iteration of the run; 0 is the bootstrap
-- mode: mode proposed
-- proposals: proposals made
-- parsed: proposals in which a program was read
-- programs: different programs among them
-- new_programs: programs that the run had never seen before; induction is given its programs
-- novelty: new_programs of parsed
-- tasks: different valid tasks
-- characters: mean length of the programs of valid tasks
WITH first AS (
    SELECT run, program_key, min(task_id) AS first_id FROM raw.tasks WHERE program_key IS NOT NULL GROUP BY ALL
)
SELECT run, iteration, mode, count(*) AS proposals, count(program_key) AS parsed,
       count(DISTINCT program_key) AS programs, count(*) FILTER (task_id = first_id) AS new_programs,
       new_programs / nullif(parsed, 0) AS novelty,
       count(DISTINCT content_key) FILTER (verdict = 'valid') AS tasks,
       avg(length(program)) FILTER (verdict = 'valid') AS characters
FROM raw.tasks
LEFT JOIN first USING (run, program_key)
GROUP BY run, iteration, mode
ORDER BY run, iteration, mode
