-- One row a bundle; what it measured stands in `measures`. Rows are never changed, only added.
CREATE TABLE IF NOT EXISTS runs (
    id VARCHAR PRIMARY KEY,
    key VARCHAR,
    path VARCHAR,              -- folder below results/
    status VARCHAR,
    reason VARCHAR,
    created TIMESTAMP,
    task VARCHAR,
    version INTEGER,
    tier VARCHAR,
    division VARCHAR,
    "case" VARCHAR,
    target VARCHAR,
    seed BIGINT,
    device VARCHAR,
    method VARCHAR,
    variant VARCHAR,           -- non-default settings; empty for the defaults
    origin VARCHAR,
    method_version VARCHAR,
    seedless BOOLEAN,
    solve_card VARCHAR,
    weigh_card VARCHAR,
    commit_id VARCHAR,
    dirty BOOLEAN,
    task_digest VARCHAR,       -- of the source of the task's modules
    submitter VARCHAR,
    notes VARCHAR[],
    unsupported JSON,
    configuration JSON,
    libraries JSON,
    processes INTEGER,         -- of the solve
    pictured VARCHAR[]         -- files of its pictures
);

CREATE TABLE IF NOT EXISTS measures (
    run VARCHAR,
    name VARCHAR,
    part VARCHAR,              -- of what: a workload, a class, a group
    value DOUBLE,
    unit VARCHAR,
    direction VARCHAR,
    low DOUBLE,                -- 95 % interval
    high DOUBLE,
    source VARCHAR,            -- evidence and timing are derived again by the checker, meter is not
    warnings VARCHAR[]
);

CREATE TABLE IF NOT EXISTS retractions (
    id VARCHAR PRIMARY KEY,
    reason VARCHAR,
    day DATE                   -- on which it was taken back, where that was told
);

-- Replays by others: what `weighin replay --submit` wrote.
CREATE TABLE IF NOT EXISTS confirmations (
    run VARCHAR,               -- id of the bundle that was run again
    card VARCHAR,              -- system card of the replay
    submitter VARCHAR,
    evidence VARCHAR,          -- equal, or within its intervals
    agrees BOOLEAN
);

-- Timings of the shapes of runs on other machines: what `weighin time` wrote, with what was measured.
CREATE TABLE IF NOT EXISTS timings (
    id VARCHAR PRIMARY KEY,
    run VARCHAR,               -- id of the bundle whose shape was weighed
    path VARCHAR,              -- folder below results/
    created TIMESTAMP,
    device VARCHAR,
    card VARCHAR,              -- system card
    origin VARCHAR,            -- bundle: the shape is in it; operations: it follows from them
    commit_id VARCHAR,
    dirty BOOLEAN,
    submitter VARCHAR,
    notes VARCHAR[],
    unsupported JSON,
    measures STRUCT(name VARCHAR, part VARCHAR, value DOUBLE, unit VARCHAR, direction VARCHAR, low DOUBLE, high DOUBLE, source VARCHAR, warnings VARCHAR[])[]
);

CREATE TABLE IF NOT EXISTS cards (hash VARCHAR PRIMARY KEY, facts JSON);

-- The curve that a task draws of its evidence along the rows (Task.show): a point a row, thinned where there are many.
CREATE TABLE IF NOT EXISTS series (
    run VARCHAR,
    place DOUBLE,              -- along the rows: a frame's number
    value DOUBLE
);

-- What runs told of themselves on their way, of the values that a task shows (Task.show): nothing but a replay confirms it.
CREATE TABLE IF NOT EXISTS histories (
    run VARCHAR,
    name VARCHAR,
    look INTEGER,              -- from 1, in the order in which the run told them
    examples BIGINT,           -- handled so far
    seconds DOUBLE,            -- so far, on the clock of the solve
    value DOUBLE,
    ended BIGINT               -- examples handled at the last point that the run told, of whatever
);

-- Right answers of a run by test picture, of those of its measures that a task holds against others' (Task.show).
CREATE TABLE IF NOT EXISTS hits (
    run VARCHAR,
    measure VARCHAR,           -- name:part
    picture BIGINT,
    copies INTEGER,            -- rows of the evidence that show it
    hits DOUBLE                -- sum over these of the share of right answers
);

-- Points of the evidence in a plane, of those tasks that draw them (Task.show), of runs of seed 0.
CREATE TABLE IF NOT EXISTS clouds (
    run VARCHAR,
    x DOUBLE,
    y DOUBLE,
    colour TINYINT,            -- -1: grey
    shape TINYINT,
    landmark TINYINT           -- -1: a point like others
);

-- Pictures that a task shows (Task.show), of the first seed of a row: WebP without loss, as they lie in the bundles.
CREATE TABLE IF NOT EXISTS pictures (
    run VARCHAR,
    name VARCHAR,              -- where it was cut; an original's ends in .original
    width INTEGER,
    height INTEGER,
    webp BLOB
);

-- Where a database was read from partitions (`weighin publish --from`), and nothing where it was made from bundles: who wrote a
-- partition checked it, which nothing in it proves.
CREATE TABLE IF NOT EXISTS partitions (
    name VARCHAR PRIMARY KEY,
    weighin VARCHAR,           -- version that wrote it, and checked
    created TIMESTAMP,
    runs BIGINT,
    marks BIGINT               -- of the writer's `weighin check`; with an error none is written
);
CREATE TABLE IF NOT EXISTS origins (run VARCHAR PRIMARY KEY, partition VARCHAR);
