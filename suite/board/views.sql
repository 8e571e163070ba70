-- What counts. Of several ok runs of one question and seed the first counts, the others are replays:
-- nobody improves a row by repeating it.  A method of ours from a source that is not ours is a row of its own: its variant says so.
CREATE OR REPLACE VIEW standing AS
SELECT r.* EXCLUDE (is_foreign, variant, seedless), is_foreign AS "foreign", retractions.reason AS retracted,
       CASE WHEN is_foreign THEN concat_ws(',', nullif(variant, ''), 'source=' || left(method_version, 8)) ELSE variant END AS variant,
       seedless AND origin = 'reference' AS seedless
FROM (
    SELECT runs.*, origin = 'reference' AND (task, method) IN (SELECT (task, method) FROM sources) AND (
        (task, method, method_version) NOT IN (SELECT (task, method, digest) FROM sources)
        OR task_digest IS NOT NULL AND (task, '', task_digest) NOT IN (SELECT (task, method, digest) FROM sources)
    ) AS is_foreign
    FROM runs
) AS r LEFT JOIN retractions USING (id)
WHERE (task, method, method_version) NOT IN (SELECT (task, method, digest) FROM archived);

CREATE OR REPLACE VIEW counted AS
SELECT * FROM standing
WHERE status = 'ok' AND retracted IS NULL AND tier <> 'smoke'
QUALIFY row_number() OVER (
    PARTITION BY task, version, tier, division, "case", target, method, variant, seed ORDER BY created, id
) = 1;

-- Timings: the first of each seed on each card.
CREATE OR REPLACE VIEW weighed AS
SELECT * FROM standing
WHERE status = 'ok' AND retracted IS NULL AND tier <> 'smoke'
QUALIFY row_number() OVER (
    PARTITION BY task, version, tier, division, "case", target, method, variant, seed, weigh_card, device ORDER BY created, id
) = 1;

-- Timings of shapes: the run as it would stand had it been weighed there; "row" is the run itself, whose quality alone counts.
CREATE OR REPLACE VIEW retimed AS
SELECT s.* REPLACE (t.id AS id, t.path AS path, t.created AS created, t.device AS device, t.card AS weigh_card, t.notes AS notes,
       t.commit_id AS commit_id, t.dirty AS dirty, t.submitter AS submitter, t.unsupported AS unsupported), s.id AS "row"
FROM timings AS t JOIN standing AS s ON s.id = t.run
WHERE s.status = 'ok' AND s.retracted IS NULL AND s.tier <> 'smoke';

-- What runs and timings of shapes measured.
CREATE OR REPLACE VIEW measured AS
SELECT * FROM measures UNION ALL SELECT id AS run, unnest(measures, max_depth := 2) FROM timings;

-- A failure stays in view until the same question has an ok answer on the same system.
CREATE OR REPLACE VIEW failures AS
SELECT * FROM standing AS f
WHERE (status <> 'ok' OR retracted IS NOT NULL) AND tier <> 'smoke'
  AND NOT EXISTS (SELECT 1 FROM standing AS s WHERE s.key = f.key AND s.status = 'ok' AND s.retracted IS NULL);

-- Asked and kept: target x is held against the metered kept.x. Off by more than 1 %: kept, marked, unranked.
CREATE OR REPLACE VIEW kept AS
SELECT
    runs.id,
    split_part(asked.text, '=', 1) AS name,
    try_cast(split_part(asked.text, '=', 2) AS DOUBLE) AS wanted,
    m.value AS kept,
    m.value IS NULL OR coalesce(abs(m.value / try_cast(split_part(asked.text, '=', 2) AS DOUBLE) - 1) > 0.01, true) AS off_target
FROM runs
CROSS JOIN LATERAL (SELECT unnest(string_split(runs.target, ',')) AS text) AS asked
LEFT JOIN measures AS m ON m.run = runs.id AND m.name = 'kept.' || split_part(asked.text, '=', 1)
WHERE runs.target <> '';

-- Each measure beside the parent's of the same seed: what did the method change, and for whom?
CREATE OR REPLACE VIEW changes AS
SELECT r.id, r.task, r.version, r.tier, r.division, r."case", r.target, r.seed, r.method, r.variant,
       m.name, m.part, m.value, p.value AS parent, m.value - p.value AS change
FROM counted AS r
JOIN measures AS m ON m.run = r.id AND m.source = 'evidence'
JOIN parents ON parents.task = r.task
JOIN counted AS d ON d.method = parents.method AND d.variant = '' AND d.target = ''
    AND (d.task, d.version, d.tier, d.division, d."case", d.seed) = (r.task, r.version, r.tier, r.division, r."case", r.seed)
JOIN measures AS p ON p.run = d.id AND p.name = m.name AND p.part = m.part;
