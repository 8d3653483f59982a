-- Which attempts were made, and how did each end? Also those that failed or were killed.
--
-- run: the run
-- iteration: iteration of the run; 0 is the bootstrap
-- round: bootstrap round; 0 in every later iteration
-- stage: propose, validate, solve, verify or update
-- attempt: number of the attempt at this stage, from 1
-- outcome: sealed, failed, discarded (another was sealed first), killed, or running
-- seconds: wall-clock time; null while it runs, and when it was killed
-- error: of a failed one
-- code_version: code that ran
-- flow_run_id: the Prefect flow run that made it
-- pid: process that made it
-- host: machine it ran on
-- started: UTC
-- ended: UTC; null while it runs, and when it was killed
WITH started AS (
    SELECT * FROM raw.attempts WHERE event = 'start'
), ended AS (
    SELECT run, iteration, round, stage, attempt, ended_us, outcome, error FROM raw.attempts WHERE event = 'end'
), known AS (
    SELECT a.* EXCLUDE (ended_us, outcome, error), e.error,
           -- The seal decides where the log is silent: killed after the commit point, before its last line.
           coalesce(e.ended_us, CASE WHEN s.attempt = a.attempt THEN s.finished_us END) AS ended_us,
           coalesce(
               e.outcome, CASE WHEN s.attempt = a.attempt THEN 'sealed' END,
               CASE WHEN l.process IS NOT NULL THEN 'running' ELSE 'killed' END) AS outcome
    FROM started a
    LEFT JOIN ended e USING (run, iteration, round, stage, attempt)
    LEFT JOIN raw.sealed s USING (run, iteration, round, stage)
    LEFT JOIN raw.living l USING (pid, process)
)
SELECT run, iteration, round, stage, attempt, outcome, (ended_us - started_us) / 1e6 AS seconds, error, code_version,
       flow_run_id, pid, host, make_timestamp(started_us) AS started, make_timestamp(ended_us) AS ended
FROM known
ORDER BY run, iteration, round, stage_order(stage), attempt
