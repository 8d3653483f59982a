-- Where does the time go? Wall and CPU seconds of every sealed stage, with attempts, rows and bytes.
SELECT s.run, s.iteration, s.round, s.stage, s.seconds, s.cpu_seconds, s.rows, s.bytes,
       count(a.attempt) AS attempts, count(a.attempt) FILTER (a.outcome IN ('failed', 'killed')) AS lost
FROM stages s
LEFT JOIN attempts a USING (run, iteration, round, stage)
GROUP BY ALL
ORDER BY s.run, s.iteration, s.round, min(s.started)
