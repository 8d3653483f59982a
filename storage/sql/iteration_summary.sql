-- What happened in each iteration? Proposed, valid, solved, rewarded, seconds, and which policy came out.
SELECT i.*, c.policy
FROM iterations i
LEFT JOIN (SELECT run, iteration, max_by(policy, round) AS policy FROM checkpoints GROUP BY ALL) c USING (run, iteration)
ORDER BY run, iteration
