"""Partitions in object storage, read by DuckDB's own httpfs from an S3 server on this machine.

No test downloads: httpfs is what this DuckDB has installed, or what the package ``duckdb-extension-httpfs`` brings.  That is there
for DuckDB 1.5 alone, so that both lie in a folder of their own (the Makefile fills it) and the command runs with that DuckDB.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from suite import registry
from suite.board import partitions, store
from tests.suite.board.test_partitions import NO_MARKS, PAGE, assert_equal
from tests.suite.board.test_store import ask, light

BESIDE = Path(os.environ.get("WEIGHIN_HTTPFS") or Path(sys.prefix) / "httpfs")  #: DuckDB 1.5 and its extension
FIT = "import duckdb; duckdb.execute('LOAD httpfs')"
INSTALL = """
import duckdb, duckdb_extension_httpfs, pathlib
(file,) = pathlib.Path(duckdb_extension_httpfs.__file__).parent.rglob("*.duckdb_extension")
duckdb.execute(f"INSTALL '{file}'")
"""
KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}


def python(code: str, environment: Mapping[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-c", code, *words], capture_output=True, text=True, env=dict(environment), timeout=120
    )


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which Python's DuckDB has httpfs."""
    plain = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
    own = {**plain, "PYTHONPATH": str(registry.HOUSE), "COLUMNS": "200"}
    if python(FIT, own).returncode == 0:
        return own
    if not (BESIDE / "duckdb_extension_httpfs").is_dir():
        pytest.skip(f"this DuckDB has no httpfs, and {BESIDE} holds none (make test puts it there)")
    # where DuckDB keeps its extensions is a matter of the home
    other = {**own, "PYTHONPATH": f"{registry.HOUSE}:{BESIDE}", "HOME": str(tmp_path_factory.mktemp("home"))}
    done = python(INSTALL + FIT, other)
    assert done.returncode == 0, done.stderr
    return other


@dataclass(frozen=True)
class Storage:
    """An S3 server, and how the command reaches it."""

    client: Any
    environment: dict[str, str]

    def upload(self, folder: Path, prefix: str) -> None:
        for file in sorted(p for p in folder.rglob("*") if p.is_file()):
            self.client.put_object(
                Bucket="weighin-results", Key=f"{prefix}/{file.relative_to(folder).as_posix()}", Body=file.read_bytes()
            )

    def at(self, endpoint: str) -> Storage:
        """The same, where the server is told to be elsewhere."""
        return Storage(self.client, {**self.environment, "AWS_ENDPOINT_URL": endpoint or self.environment["AWS_ENDPOINT_URL"]})

    def weighin(self, *words: str, folder: Path) -> subprocess.CompletedProcess[str]:
        call = [sys.executable, "-P", "-m", "suite.cli", *words]
        return subprocess.run(call, capture_output=True, text=True, env=self.environment, cwd=folder, timeout=120)


@pytest.fixture(scope="module")
def storage(engine: dict[str, str]) -> Iterator[Storage]:
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        address = "http://{}:{}".format(*server.get_host_and_port())
        client = boto3.client(
            "s3",
            endpoint_url=address,
            aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
            region_name=KEYS["AWS_REGION"],
        )
        client.create_bucket(Bucket="weighin-results")
        yield Storage(client, {**engine, **KEYS, "AWS_ENDPOINT_URL": address})
    finally:
        server.stop()


@pytest.fixture(scope="module")
def stored(storage: Storage, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Partitions of two laboratories, uploaded; the folder of the board of their bundles."""
    root = tmp_path_factory.mktemp("stored")
    for lab, seeds in (("a", (0, 1)), ("b", (1, 2))):
        for seed in seeds:
            light(root / lab, seed)
            light(root / "both", seed)
        partitions.write(root / lab, root / "own" / lab, NO_MARKS)
        partitions.write(root / lab, root / "shared", NO_MARKS)
        storage.upload(root / "own" / lab, f"labs/{lab}")
    storage.upload(root / "shared", "shared")
    store.publish(root / "both", root / "both.duckdb")
    return root


@pytest.mark.parametrize(
    "sources",
    [
        ["s3://weighin-results/shared"],
        ["s3://weighin-results/labs/*/"],
        ["s3://weighin-results/labs/b", "s3://weighin-results/labs/a", "{root}/shared"],
    ],
)
def test_partitions_in_a_bucket_are_the_board_of_their_bundles(
    storage: Storage, stored: Path, tmp_path: Path, sources: list[str]
) -> None:
    words = [word for source in sources for word in ("--from", source.format(root=stored))]
    done = storage.weighin("publish", *words, "--out", "b.duckdb", "--json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["bundles"] == 3
    assert_equal(tmp_path / "b.duckdb", stored / "both.duckdb")


def test_the_example_on_the_page_runs_against_a_bucket(storage: Storage, stored: Path, tmp_path: Path) -> None:
    block = PAGE.read_text(encoding="utf-8").split("## On object storage")[1].split("```")[1]
    lines = [line.replace("'", "").split()[1:] for line in block.splitlines() if line.startswith("weighin ")]
    assert len(lines) == 2
    for line in lines:
        done = storage.weighin(*line, folder=tmp_path)
        assert done.returncode == 0, done.stderr
    for name in ("build/weighin.duckdb", "all.duckdb"):
        assert_equal(tmp_path / name, stored / "both.duckdb")


def test_views_over_a_bucket_are_read_with_the_keys_of_the_session(storage: Storage, stored: Path, tmp_path: Path) -> None:
    done = storage.weighin(
        "publish", "--from", "s3://weighin-results/shared", "--in-place", "--out", "views.duckdb", folder=tmp_path
    )
    assert done.returncode == 0, done.stderr
    query = """
import duckdb, sys
db = duckdb.connect(sys.argv[1], read_only=True)
db.execute(f"LOAD httpfs; SET s3_endpoint = '{sys.argv[2]}'; SET s3_use_ssl = false; SET s3_url_style = 'path'")
print(db.execute("SELECT seed, value FROM counted JOIN measures ON run = id AND name = 'top1' ORDER BY seed").fetchall())
"""
    endpoint = storage.environment["AWS_ENDPOINT_URL"].removeprefix("http://")
    seen = python(query, storage.environment, str(tmp_path / "views.duckdb"), endpoint)
    assert seen.stdout.strip() == "[(0, 90.0), (1, 91.0), (2, 92.0)]", seen.stderr
    assert ask(tmp_path / "views.duckdb", "SELECT count(*) FROM origins") == [(3,)]


def cut(storage: Storage, prefix: str) -> None:
    """Half of a file of measures in place of the whole."""
    found = storage.client.list_objects_v2(Bucket="weighin-results", Prefix=f"{prefix}/")["Contents"]
    key = next(entry["Key"] for entry in found if "/measures/" in entry["Key"])
    body = storage.client.get_object(Bucket="weighin-results", Key=key)["Body"].read()
    storage.client.put_object(Bucket="weighin-results", Key=key, Body=body[: len(body) // 2])


def withheld(storage: Storage, prefix: str) -> None:
    """An upload that ended before its last files."""
    found = storage.client.list_objects_v2(Bucket="weighin-results", Prefix=f"{prefix}/")["Contents"]
    storage.client.delete_object(Bucket="weighin-results", Key=next(e["Key"] for e in found if "/runs/" in e["Key"]))


@pytest.mark.parametrize(
    ("source", "damage", "endpoint", "said"),
    [
        ("s3://no-such-bucket/p", None, "", "there is no such bucket: look at its name"),
        ("s3://weighin-results/nothing", None, "", "no partition=…/partition.json there"),
        ("s3://weighin-results/cut", cut, "", "copy the partition again, whole"),
        ("s3://weighin-results/withheld", withheld, "", "copy the partition again, whole"),
        ("s3://weighin-results/shared", None, "http://127.0.0.1:9", "look at the network, and at AWS_ENDPOINT_URL"),
    ],
)
def test_what_cannot_be_read_of_a_bucket_is_one_line(
    storage: Storage,
    stored: Path,
    tmp_path: Path,
    source: str,
    damage: Callable[[Storage, str], None] | None,
    endpoint: str,
    said: str,
) -> None:
    if damage:
        prefix = source.rpartition("/")[2]
        storage.upload(stored / "shared", prefix)
        damage(storage, prefix)
    done = storage.at(endpoint).weighin("publish", "--from", source, "--out", "b.duckdb", folder=tmp_path)
    assert_told(done, source, said)
    assert not (tmp_path / "b.duckdb").exists()


def assert_told(done: subprocess.CompletedProcess[str], source: str, said: str) -> None:
    """One line about a source, and exit code 2."""
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert source in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_keys_that_may_not_read_are_told(storage: Storage, stored: Path, tmp_path: Path) -> None:
    def answer_unlooked(calls: str) -> None:
        """So many calls are answered without a look at their keys."""
        plain = {"Content-Type": "text/plain"}
        address = f"{storage.environment['AWS_ENDPOINT_URL']}/moto-api/reset-auth"
        urllib.request.urlopen(urllib.request.Request(address, calls.encode(), plain)).close()

    answer_unlooked("0")
    try:
        done = storage.weighin("publish", "--from", "s3://weighin-results/shared", folder=tmp_path)
    finally:
        answer_unlooked("inf")
    assert_told(done, "s3://weighin-results/shared", "give AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION")
