-- What did a run propose, accept, solve and learn in each mode?
--
-- run: the run
-- mode: mode of the tasks
-- proposed: proposals, without the tasks that were given
-- accepted: proposals that became tasks
-- answers: answers judged
-- correct: answers judged correct
-- accuracy: correct of answers
-- learnable: proposals that were paid for their learnability
-- proposer_reward: mean reward of proposals
-- solver_reward: mean reward of answers
WITH proposed AS (
    SELECT run, mode, count(*) AS proposed, count(*) FILTER (verdict = 'valid') AS accepted
    FROM raw.tasks WHERE NOT (iteration = 0 AND round = 0) GROUP BY ALL
), solved AS (
    SELECT run, mode, count(*) AS answers, count(*) FILTER (verdict = 'correct') AS correct FROM raw.answers GROUP BY ALL
), learned AS (
    SELECT run, mode, count(*) FILTER (rung = 'learnable') AS learnable,
           avg(total) FILTER (role = 'proposer') AS proposer_reward, avg(total) FILTER (role = 'solver') AS solver_reward
    FROM raw.rewards GROUP BY ALL
)
SELECT run, mode, proposed, accepted, answers, correct, correct / answers AS accuracy, learnable, proposer_reward,
       solver_reward
FROM proposed
LEFT JOIN solved USING (run, mode)
LEFT JOIN learned USING (run, mode)
ORDER BY run, mode
