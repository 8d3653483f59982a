-- Where do time, tokens and disk go? Every stage that was attempted, sealed or not.
--
-- run: the run
-- iteration: iteration of the run; 0 is the bootstrap
-- round: bootstrap round; 0 in every later iteration
-- stage: propose, validate, solve, verify or update
-- attempts: attempts begun
-- failed: attempts that failed
-- killed: attempts that were killed
-- last: outcome of the last attempt
-- rows: rows sealed; null while it is not sealed
-- bytes: bytes of the sealed Parquet files
-- checkpoint_bytes: bytes of the weights that an update published
-- prompt_tokens: tokens of its prompts
-- completion_tokens: tokens sampled
-- seconds: wall-clock time of the sealed attempt
-- cpu_seconds: its CPU time
-- lost_seconds: wall-clock time of attempts that failed
WITH tried AS (
    SELECT run, iteration, round, stage, count(*) AS attempts,
           count(*) FILTER (outcome = 'failed') AS failed, count(*) FILTER (outcome = 'killed') AS killed,
           max_by(outcome, attempt) AS last, coalesce(sum(seconds) FILTER (outcome = 'failed'), 0) AS lost_seconds
    FROM attempts
    GROUP BY ALL
), sampled AS (
    SELECT run, iteration, round, CASE role WHEN 'proposer' THEN 'propose' ELSE 'solve' END AS stage,
           sum(prompt_tokens)::BIGINT AS prompt_tokens, sum(completion_tokens)::BIGINT AS completion_tokens
    FROM raw.rollouts
    GROUP BY ALL
), published AS (
    SELECT run, iteration, round, 'update' AS stage, bytes AS checkpoint_bytes
    FROM raw.checkpoints
    WHERE directory IS NOT NULL
)
SELECT run, iteration, round, stage, attempts, failed, killed, last, s.rows, s.bytes, checkpoint_bytes,
       prompt_tokens, completion_tokens, s.seconds, s.cpu_seconds, lost_seconds
FROM tried
LEFT JOIN stages s USING (run, iteration, round, stage)
LEFT JOIN sampled USING (run, iteration, round, stage)
LEFT JOIN published USING (run, iteration, round, stage)
ORDER BY run, iteration, round, stage_order(stage)
