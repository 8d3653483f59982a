-- How do the runs compare, side by side? What each made, learned and cost, in one row.
--
-- run: the run
-- iterations: iterations whose update is sealed
-- proposals: proposals made
-- valid_share: share of them that became tasks
-- answers: answers judged
-- accuracy: share of the answers that are correct
-- first_accuracy: the same in the first iteration with answers
-- last_accuracy: the same in the last one
-- proposer_reward: mean reward of all proposals
-- solver_reward: mean reward of all answers
-- tokens: tokens sampled
-- bytes: bytes of the sealed Parquet files
-- seconds: wall-clock time of the sealed attempts
-- lost: attempts that failed or were killed
WITH made AS (
    SELECT run, sum(proposals)::BIGINT AS proposals, sum(valid) / sum(proposals) AS valid_share,
           sum(answers)::BIGINT AS answers, sum(answers * solver_accuracy) / sum(answers) AS accuracy,
           arg_min(solver_accuracy, iteration) AS first_accuracy, arg_max(solver_accuracy, iteration) AS last_accuracy
    FROM iterations WHERE proposals IS NOT NULL GROUP BY ALL
), rewarded AS (
    SELECT run, avg(total) FILTER (role = 'proposer') AS proposer_reward,
           avg(total) FILTER (role = 'solver') AS solver_reward
    FROM raw.rewards GROUP BY ALL
), spent AS (
    SELECT run, sum(completion_tokens)::BIGINT AS tokens, sum(bytes)::BIGINT AS bytes, sum(seconds) AS seconds,
           sum(failed + killed)::BIGINT AS lost
    FROM costs GROUP BY ALL
)
SELECT run, r.iterations, proposals, valid_share, answers, accuracy, first_accuracy, last_accuracy, proposer_reward,
       solver_reward, tokens, bytes, seconds, lost
FROM runs r
LEFT JOIN made USING (run)
LEFT JOIN rewarded USING (run)
LEFT JOIN spent USING (run)
WHERE r.problem IS NULL
ORDER BY run
