-- What happened in each iteration? Proposed, valid, solved, rewarded, and which policy came out.
--
-- run: the run
-- iteration: iteration of the run; 0 is the bootstrap
-- stages_sealed: sealed partitions of it
-- proposals: proposals made
-- valid: proposals that became tasks
-- answers: answers of solvers, judged
-- solver_accuracy: share of the answers that are correct
-- proposer_reward: mean reward of its proposals
-- solver_reward: mean reward of its answers
-- seconds: wall-clock time of its sealed attempts
-- policy: hash of the weights it published
WITH made AS (
    SELECT run, iteration, count(*) AS stages_sealed, sum(seconds) AS seconds FROM stages GROUP BY ALL
), validated AS (
    SELECT run, iteration, count(*) FILTER (verdict = 'valid') AS valid FROM raw.tasks GROUP BY ALL
), proposed AS (
    SELECT run, iteration, count(*) AS proposals FROM raw.rollouts WHERE role = 'proposer' GROUP BY ALL
), answered AS (
    SELECT run, iteration, count(*) AS answers, avg((verdict = 'correct')::INTEGER) AS solver_accuracy
    FROM raw.answers GROUP BY ALL
), rewarded AS (
    SELECT run, iteration,
           avg(total) FILTER (role = 'proposer') AS proposer_reward, avg(total) FILTER (role = 'solver') AS solver_reward
    FROM raw.rewards GROUP BY ALL
), published AS (
    SELECT run, iteration, max_by(policy, round) AS policy FROM raw.checkpoints GROUP BY ALL
)
SELECT run, iteration, stages_sealed, proposals, valid, answers, solver_accuracy, proposer_reward, solver_reward,
       seconds, policy
FROM made
LEFT JOIN proposed USING (run, iteration)
LEFT JOIN validated USING (run, iteration)
LEFT JOIN answered USING (run, iteration)
LEFT JOIN rewarded USING (run, iteration)
LEFT JOIN published USING (run, iteration)
ORDER BY run, iteration
