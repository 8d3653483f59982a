-- What did retention let go? Each thing with its hash, which stays in the seal, and why it could go.
--
-- run: the run that made it
-- position: partition whose seal names it, as 12/solve
-- what: tokens, optimizer state, checkpoint or unsealed checkpoint
-- path: path below the run
-- hash: its hash
-- bytes: its size
-- policy: why it could go
-- dropped: when it went, UTC
SELECT home AS run, position, what, path, hash, bytes, policy, make_timestamp(dropped_us) AS dropped
FROM raw.dropped
ORDER BY run, dropped, path
