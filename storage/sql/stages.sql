-- What is sealed? One row per partition.
--
-- run: the run
-- iteration: iteration of the run; 0 is the bootstrap
-- round: bootstrap round; 0 in every later iteration
-- stage: propose, validate, solve, verify or update
-- attempt: the attempt that counts
-- rows: rows in all its tables
-- bytes: bytes of its Parquet files
-- content: hash of what was computed, and of what it was computed from
-- seconds: wall-clock time from the start of the attempt to its seal
-- cpu_seconds: CPU time of the writer and its ended children
-- code_version: code that made it
-- flow_run_id: the Prefect flow run that made it
-- started: when the attempt began, UTC
-- finished: when it was sealed, UTC
SELECT run, iteration, round, stage, attempt,
       list_sum(list_transform(outputs, lambda output: output.rows))::BIGINT AS rows,
       list_sum(list_transform(outputs, lambda output: output.bytes))::BIGINT AS bytes,
       content, (finished_us - started_us) / 1e6 AS seconds, cpu_us / 1e6 AS cpu_seconds,
       code_version, flow_run_id, make_timestamp(started_us) AS started, make_timestamp(finished_us) AS finished
FROM raw.sealed
ORDER BY run, iteration, round, stage_order(stage)
