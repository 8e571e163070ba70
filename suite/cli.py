"""The command.  Only what `--help` needs is imported at the top: heavy modules load where they are used."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import math
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from suite.naming import UserError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.progress import Progress, TaskID

    from suite import retiming
    from suite.bundle import RunRecord
    from suite.meters.selftest import SelfTest
    from suite.order import Order
    from suite.registry import MethodRef
    from suite.runner import Outcome, Settings
    from suite.standing import Standing
    from suite.sweep import Submitted
    from suite.system import SystemCard
    from suite.versions import Lineage

app = typer.Typer(
    name="weighin",
    help="Benchmark efficient and fair deep learning on one scale: run methods, check their results, publish them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines on standard output.")]
Out = Annotated[Path, typer.Option(help="Folder of the results.", envvar="WEIGHIN_RESULTS")]
Data = Annotated[str, typer.Option(help="Folder of the papers' data sets.", envvar="WEIGHIN_DATA")]
Device = Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")]
Sources = Annotated[
    list[str] | None,
    typer.Option(
        "--from",
        metavar="SOURCE",
        help="Partitions in place of results: a folder, a pattern of folders or s3://bucket/prefix; repeatable.",
    ),
]
RESULTS = Path("results")
GOOD = {"ok": "green", "solved": "green"}


@app.command("list")
def list_(
    task: Annotated[str, typer.Argument(help="Only this task.")] = "",
    method: Annotated[str, typer.Argument(help="One of its methods, or ./file.py: what it is and what can be set.")] = "",
    as_json: Json = False,
) -> None:
    """List tasks, their tiers and cases, and the methods there are; or a method and its settings."""
    from suite import registry

    if task:
        registry.task(task)  # or says which there are
    if method:
        return _list_settings(registry.method(task, method), as_json)
    names = [task] if task else list(registry.tasks())
    found: list[dict[str, Any]] = []
    for name in names:
        card = registry.task(name)
        methods = [_described(m) for m in registry.methods(name).values()]
        tiers = {t: {"cases": list(v.cases), "targets": list(v.targets)} for t, v in card.tiers.items()}
        found.append({"task": name, "version": card.version, "question": card.question, "tiers": tiers, "methods": methods})
    if as_json:
        return _print_json(found)
    from rich.table import Table

    console = _console()
    for entry in found:
        console.print(f"\n[bold]{entry['task']}[/] version {entry['version']}  {entry['question']}")
        for tier, shape in entry["tiers"].items():
            targets = ", ".join(t for t in shape["targets"] if t)
            asked = f"  [dim]targets[/] {targets}" if targets else ""
            console.print(f"  [dim]{tier:6}[/] {', '.join(shape['cases'])}{asked}")
        table = Table(box=None, pad_edge=True, show_header=False)
        for m in entry["methods"]:
            paper = m["kind"] == "paper"
            mark = "[bold blue]●[/]" if paper else "[dim]○[/]"
            table.add_row("", mark, f"[bold]{m['name']}[/]" if paper else m["name"], m["summary"])
        console.print(table)
    console.print("\n[dim]● a paper's method  ○ a baseline.  Its settings: weighin list TASK NAME[/]")
    console.print("[dim]Run one: weighin run TASK --method NAME --seed 0[/]")
    return None


def _described(ref: MethodRef) -> dict[str, Any]:
    kind = "paper" if ref.paper else "baseline"
    return {"name": ref.name, "summary": ref.summary, "kind": kind, "paper": ref.paper, "origin": ref.origin}


def _list_settings(ref: MethodRef, as_json: bool) -> None:
    from suite.fields import settings

    found = settings(ref)
    if as_json:
        rows = [dataclasses.asdict(s) for s in found]
        return _print_json({"task": ref.task, **_described(ref), "departs": ref.departs, "settings": rows})
    from rich.markup import escape
    from rich.table import Table

    console = _console()
    console.print(f"\n[bold]{escape(ref.name)}[/]  {escape(ref.summary)}")
    for title, words in (("Paper", ref.paper), ("What we changed", ref.departs)):
        if words:
            console.print(f"\n[dim]{title}:[/] {escape(words)}")
    if not found:
        return console.print("\nNothing can be set.")
    table = Table("setting", "default", "values", "meaning", box=None, pad_edge=False, header_style="dim")
    for s in found:
        table.add_row(*map(escape, (s.name, s.default or "must be given", s.values, s.meaning)))
    console.print("", table, f"\n[dim]weighin run {ref.task} -m {escape(ref.name)} --set {found[0].name}=VALUE[/]", sep="\n")
    return None


def _self_test(trials: int, quick: bool) -> SelfTest:
    """Say how long it takes, then each trial as it is done, on standard error."""
    from suite.meters import selftest

    expected = selftest.QUICK if quick else selftest.expected_seconds(trials)
    minutes = f"{expected / 60:.0f} minutes" if expected >= 90 else f"{expected:.0f} s"
    said = _console(stderr=True)
    said.print(f"up to {trials} trials, at most about {minutes}; whatever else runs here meanwhile blurs them")

    def tell(done: int) -> None:  # a line each and no bar: one that redraws itself takes the cores that are being timed
        said.print(f"[dim]trial {done} of up to {trials} is done[/]")

    if quick:
        return selftest.self_test(trials, selftest.QUICK_CAP, most_seconds=selftest.QUICK, alone=True, tell=tell)
    return selftest.self_test(trials, tell=tell)


@app.command()
def system(
    device: Device = "cpu",
    self_test: Annotated[bool, typer.Option("--self-test", help="A/A trials: what can this machine tell apart?")] = False,
    trials: Annotated[int, typer.Option(help="Trials of the self-test.", min=2)] = 20,
    quick: Annotated[bool, typer.Option("--quick", help="A self-test of half a minute: fewer and shorter trials.")] = False,
    as_json: Json = False,
) -> None:
    """Show this machine's system card; with --self-test or --quick, what it can resolve."""
    from suite import system as machine

    _check_device(device)
    card = machine.card(device)
    result = None
    if self_test or quick:
        from suite.meters import selftest

        result = _self_test(trials, quick)
    if as_json:
        return _print_json({"hash": card.hash, "card": card.model_dump(mode="json"), "self_test": _plain(result)})
    from rich.table import Table

    console = _console()
    table = Table("fact", "value", title=f"system card {card.hash[:8]}", title_justify="left")
    for name, value in _flat(card.model_dump(mode="json")):
        table.add_row(name, value)
    console.print(table)
    if result is not None:
        console.print(selftest.render(result))
    return None


@app.command()
def run(
    task: Annotated[str, typer.Argument(help="Name of the task: see `weighin list`; with --claims it may be left out.")] = "",
    method: Annotated[list[str] | None, typer.Option("--method", "-m", help="Name of a method, or ./file.py; repeatable.")] = None,
    seed: Annotated[list[int] | None, typer.Option("--seed", "-s", help="Repeatable.")] = None,
    tier: Annotated[str, typer.Option(help="Scale of the task: smoke, small or paper.")] = "small",
    case: Annotated[list[str] | None, typer.Option(help="Data and architecture; repeatable; default: the tier's first.")] = None,
    target: Annotated[
        list[str] | None, typer.Option(help="Compression target: name=share to keep, as in `weighin list`; repeatable.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Hyper-parameter of the method, key=value; repeatable.")
    ] = None,
    division: Annotated[str, typer.Option(help="Rules of the ranking: closed, open or speed (timing alone).")] = "closed",
    data: Data = "",
    device: Device = "cpu",
    threads: Annotated[int, typer.Option(help="CPU threads; 0: all cores.", min=0)] = 0,
    processes: Annotated[
        int, typer.Option(help="Processes (GPUs) that share each batch of a solve, where the task can.", min=1)
    ] = 1,
    out: Out = RESULTS,
    retry: Annotated[bool, typer.Option("--retry", help="Try failed runs again (out of memory, timeout, error, killed).")] = False,
    timeout: Annotated[float | None, typer.Option(help="Seconds a stage may take; default: the tier's cap.")] = None,
    solve_only: Annotated[bool, typer.Option("--solve-only", help="Train and test now, measure later: `weighin weigh`.")] = False,
    cluster: Annotated[Path | None, typer.Option(help="Submit to a cluster: a TOML for submitit.")] = None,
    submitter: Annotated[str, typer.Option(help="Who submits this: a name on the board.", envvar="WEIGHIN_SUBMITTER")] = "",
    claims: Annotated[
        bool,
        typer.Option("--claims", help="Make the seeds that decide the papers' claims (of one task): see `weighin claims --plan`."),
    ] = False,
    budget: Annotated[str, typer.Option(help="With --claims: how long it may take, such as 6h or 90m.")] = "",
    as_json: Json = False,
) -> None:
    """Run methods on a task; what has a bundle is not run again, what was stopped goes on."""
    from suite import naming, place, registry, runner, standing, sweep
    from suite import system as machine

    plan = sweep.read_plan(cluster) if cluster is not None else None
    if plan is None:  # what a cluster's nodes have is for them to say
        _check_device(device, threads)
    if submitter:
        naming.check_submitter(submitter)
    if timeout is not None and not 0 < timeout < float("inf"):
        raise UserError(f"--timeout {timeout:g}: write seconds, more than 0")
    chosen = runner.Settings(out, _work(out), timeout, retry, submitter, solve_only)
    if claims:
        named: dict[str, object] = {"--method": method, "--seed": seed, "--case": case, "--target": target, "--set": settings}
        named |= {"--cluster": cluster, "--solve-only": solve_only, "--processes": processes > 1}
        if given := [name for name, value in named.items() if value]:
            raise UserError(f"{given[0]} with --claims: the claims name their rows; leave it out")
        return _run_claims(task, budget, chosen, device, data, threads, as_json=as_json)
    if budget:
        raise UserError("--budget is of --claims: add it, or leave --budget out")
    if not task or not method:
        raise UserError("name a task and a --method, as `weighin list` shows them; or --claims, for the rows that decide claims")
    todo = sweep.orders(
        task,
        methods=method,
        seeds=seed or [0],
        tier=tier,
        division=division,
        cases=case or (),
        targets=target or (),
        settings=settings or (),
        device=device,
        data=data,
        threads=threads,
        processes=processes,
    )
    own = sorted({o.spec.case for o in todo} - set(registry.task(task).tiers[tier].cases))
    if own and division == "closed":
        words = f"{', '.join(own)}: not a case of this tier, so its labels cannot be checked; to submit it, use --division open"
        _console(stderr=True).print(words, style="yellow", highlight=False, soft_wrap=True)
    for folder in (out, chosen.work):
        place.check_writable(folder)
    if plan is not None:
        return _submitted(todo, sweep.submit(todo, chosen, plan), as_json)
    standing.register(out, chosen.work, todo, solve_only=solve_only)
    outcomes = _run_shown(todo, chosen, machine.card(device, threads), quiet=as_json)
    return _finish(outcomes, as_json)


@app.command()
def status(
    task: Annotated[str, typer.Argument(help="Only this task.")] = "",
    out: Out = RESULTS,
    all_: Annotated[
        bool, typer.Option("--all", help="Every run that was asked for, not only the last command's and what is open.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Stay until nothing waits or runs.")] = False,
    as_json: Json = False,
) -> None:
    """Show how the runs of a sweep stand, on this machine or a cluster; exit 1 if one failed or has no bundle and no job."""
    from suite import registry, standing

    if task:
        registry.task(task)  # or says which there are
    work = _work(out)

    def look() -> list[standing.Standing]:
        entries = {k: e for k, e in standing.read(work).items() if e.order.spec.task == (task or e.order.spec.task)}
        last = {standing.identity(e.order) for e in standing.latest(entries)}
        found = standing.standings(out, work, sorted(entries.values(), key=standing.place))
        return [s for s in found if all_ or standing.identity(s.order) in last or s.state not in standing.GOOD]

    found = look()
    if not found:
        raise UserError(
            f"no run was asked for whose results go to {_short(out)}; `weighin run` first, or name the folder with --out"
        )
    if wait:
        with _stoppable():
            found = _watched(look, found, quiet=as_json)
    if as_json:
        counts = standing.counts(found)
        _print_json({"counts": counts, "runs": [_standing_row(s) for s in found]})
    else:
        _console().print(_sweep_screen(found))
    if any(s.state in ("failed", "missing") for s in found):
        raise typer.Exit(1)


@app.command()
def weigh(
    work: Annotated[list[Path], typer.Argument(help="Work folders of runs solved with --solve-only.")],
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N; default: what each was solved on.")] = "",
    out: Out = RESULTS,
    as_json: Json = False,
) -> None:
    """Measure (weigh) solved runs on this machine and write their bundles; what a GPU solved, a CPU may weigh."""
    from suite import place, runner
    from suite.order import Order

    place.check_writable(out)
    outcomes = []
    with _stoppable(), _progress(quiet=as_json) as bars:
        for folder in work:
            _check_device(device or Order.read(folder).spec.device)
            show = _show(bars, folder.name)
            outcomes.append(runner.weigh(folder.resolve(), runner.Settings(out, folder.parent), show, device))
    _finish(outcomes, as_json, "the same command weighs it again")


@app.command("time")
def time_(
    paths: Annotated[list[Path], typer.Argument(metavar="BUNDLE|RESULTS", help="Bundles, or folders of them.")],
    device: Device = "cpu",
    budget: Annotated[str, typer.Option(help="Stop in time: 90s, 10m, 2h; default: when all is weighed.")] = "",
    threads: Annotated[int, typer.Option(help="CPU threads; 0: all cores.", min=0)] = 0,
    out: Annotated[Path | None, typer.Option(help="Results that timings go to; default: those that the bundles lie in.")] = None,
    memory: Annotated[bool, typer.Option("--memory/--no-memory", help="Read memory as well: a process a workload.")] = True,
    submitter: Annotated[str, typer.Option(help="Who submits this: a name on the board.", envvar="WEIGHIN_SUBMITTER")] = "",
    as_json: Json = False,
) -> None:
    """Weigh rows of others on this machine, from the shapes in their bundles: no training, no data sets."""
    from suite import naming, place, retiming, runner
    from suite import system as machine

    _check_device(device, threads)
    seconds = naming.seconds(budget) if budget else math.inf
    if submitter:
        naming.check_submitter(submitter)
    for path in paths:
        if not os.path.isdir(path):
            raise UserError(f"no folder {_short(path)}; name a bundle or a folder of results")
    card = machine.card(device, threads)
    plan = retiming.plan(paths, out, device, card)
    roots = {root for c in plan.todo if (root := retiming.home(c.path, out)) is not None}
    for root in roots:
        place.check_writable(root)
    found: list[retiming.Timed] = []
    with _stoppable(), _progress(quiet=as_json) as bars:
        whole = bars.add_task(f"{len(plan.todo)} rows", total=len(plan.todo)) if len(plan.todo) > 1 else None
        for timed in retiming.time_all(
            plan.todo,
            lambda root: runner.Settings(root, _work(root), submitter=submitter),
            out=out,
            device=device,
            threads=threads,
            card=card,
            seconds=seconds,
            memory=memory,
            show=lambda c: _show(bars, c.title),
        ):
            found.append(timed)
            _hide_stages(bars, whole)
            if whole is not None:
                bars.advance(whole)
            mark = "[green]timed[/]" if timed.path else "[red]failed[/]"
            told = _speed_of(timed.path) if timed.path else timed.reason
            bars.console.print(f"{mark} {_escape(timed.candidate.title)}  {_escape(told)}", soft_wrap=True, highlight=False)
    failed = [t for t in found if t.path is None]
    if as_json:
        _print_json(
            {
                "card": card.hash,
                "device": device,
                "timed": [{"row": str(t.candidate.path), "timing": str(t.path)} for t in found if t.path],
                "failed": [{"row": str(t.candidate.path), "reason": t.reason} for t in failed],
                "waiting": [str(c.path) for c in plan.todo[len(found) :]],
                "done": [str(x.path) for x in plan.left if x.done],
                "left_out": [{"row": str(x.path), "reason": x.reason} for x in plan.left if not x.done],
            }
        )
    else:
        _time_summary(plan, found)
    if failed:
        raise typer.Exit(1)


def _speed_of(path: Path) -> str:
    """The speed-up that a timing found, of the workload by which its task tells speed."""
    from suite import registry, timings

    record = timings.read(path)
    speed = registry.task(record.row.task).speed
    m = next((m for m in record.measures if m.name == "speedup" and m.part == speed), None)
    between = f" ({m.low:.2f} to {m.high:.2f})" if m and m.low is not None and m.high is not None else ""
    return f"{speed} {m.value:.2f}×{between}" if m else f"{speed} is not supported here"


def _time_summary(plan: retiming.Plan, found: Sequence[retiming.Timed]) -> None:
    console = _console()
    done = sum(x.done for x in plan.left)
    timed = sum(t.path is not None for t in found)
    waiting = len(plan.todo) - len(found)
    words = [
        f"{timed} timed",
        f"{waiting} waiting, on which the same command goes on" if waiting else "",
        f"{done} weighed here before",
    ]
    console.print(", ".join(filter(None, words)), style="bold", highlight=False)
    why = Counter(
        f"{x.record.spec.task}: {x.reason}" if x.record.spec.task not in x.reason else x.reason for x in plan.left if not x.done
    )
    for reason, count in why.most_common():
        console.print(f"  {count} left out: {_escape(reason)}", style="dim", highlight=False, soft_wrap=True)


@app.command()
def export(
    work: Annotated[Path, typer.Argument(help="Work folder of a run solved with --solve-only.")],
    folder: Annotated[Path, typer.Argument(help="New folder for the files.")],
    as_json: Json = False,
) -> None:
    """Write what a solved run deploys (a phone's programs and maps) into a new folder."""
    from suite import runner

    with _stoppable():
        files = runner.export(work.resolve(), folder)
    if as_json:
        return _print_json([{"file": str(f), "bytes": f.stat().st_size} for f in files])
    for file in files:
        _console().print(f"{file.stat().st_size:>12,}  {file}", highlight=False, soft_wrap=True)
    return None


@app.command()
def check(
    path: Annotated[list[Path], typer.Argument(help="Bundles, or folders of bundles.")],
    against: Annotated[Path | None, typer.Option(help="Other results, to find duplicates and cards in.")] = None,
    as_json: Json = False,
) -> None:
    """Validate bundles: derive every number again from the evidence; exit 1 if one does not hold."""
    from suite import bundle, timings
    from suite import check as checker

    for p in path:
        if not os.path.exists(p):  # of a name that no file system takes as well
            raise UserError(f"no file or folder {_short(p)}; name a bundle or a folder of bundles")
    if against is not None and not os.path.isdir(against):
        raise UserError(f"no folder {_short(against)}; name other results with --against, or leave it out")
    findings = checker.check(path, against=against)
    errors = [f for f in findings if f.level == "error"]
    count = sum(1 for p in path for _ in bundle.find(p)) if all(p.is_dir() for p in path) else len(path)
    weighed = sum(1 for p in path if p.is_dir() for _ in timings.find(p))
    if as_json:
        _print_json({"bundles": count, "timings": weighed, "errors": len(errors), "findings": [f.to_json() for f in findings]})
    else:
        console = _console()
        for finding in findings:
            console.print(
                finding.line(),
                style="red" if finding.level == "error" else "yellow",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )
        told = f"{count} bundles{f', {weighed} timings' if weighed else ''}"
        console.print(f"{told}, {len(errors)} errors, {len(findings) - len(errors)} marks", style="bold")
    if errors or count + weighed == 0:
        raise typer.Exit(1)


@app.command()
def preview(
    submission: Annotated[Path, typer.Argument(help="Folder of the results that are submitted.")],
    against: Annotated[Path, typer.Option(help="The results that stand: of a clone of the base branch.")],
    as_json: Json = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print the comment that a pull request gets.")] = False,
) -> None:
    """Check new bundles and tell the places that their rows would take on the board; exit 1 if one does not hold."""
    from suite.board import preview as place

    for folder, mend in ((submission, "name a folder of results"), (against, "name the results that stand with --against")):
        if not os.path.isdir(folder):
            raise UserError(f"no folder {_short(folder)}; {mend}")
    told = place.preview(submission, against)
    if as_json:
        _print_json({**_plain(told), "errors": told.errors})
    elif as_markdown:
        print(place.markdown(told), end="")
    else:
        from rich.markdown import Markdown

        _console().print(Markdown(place.markdown(told)))
    if told.errors:
        raise typer.Exit(1)


@app.command()
def replay(
    path: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle's folder.")],
    method: Annotated[str, typer.Option(help="The file, where the bundle is of somebody's own method.")] = "",
    data: Data = "",
    device: Annotated[str, typer.Option(help="Default: the bundle's.")] = "",
    out: Annotated[Path, typer.Option(help="Where the replay's own bundle goes.")] = Path("build/replays"),
    submit: Annotated[bool, typer.Option("--submit", help="Write a confirmation beside the bundles, for a pull request.")] = False,
    submitter: Annotated[str, typer.Option(help="Who ran it again: a name on the board.", envvar="WEIGHIN_SUBMITTER")] = "",
    results: Annotated[Path | None, typer.Option(help="Where the confirmation goes; default: the bundle's results.")] = None,
    as_json: Json = False,
) -> None:
    """Reproduce a row: run it again from its bundle and say whether it agrees; exit 1 if not."""
    from suite import confirming
    from suite import replay as again
    from suite import system as machine

    order, record = again.order_of(path, method=method, data=data, device=device)
    goes_to = None
    if submit:  # what cannot be submitted is said before the run
        again.may_confirm(record, submitter)
        goes_to = results or confirming.results_of(path)
    card = machine.card(order.spec.device, order.threads)
    (outcome,) = _run_shown([order], _settings(out), card, quiet=as_json)
    verdict = again.compare(path, record, outcome.path)
    told = None
    if goes_to:
        machine.write_card(card, goes_to / "systems")
        told = confirming.write(goes_to, again.confirmation(verdict, record, submitter))
    if as_json:
        _print_json({**_plain(verdict), "agrees": verdict.agrees, "confirmation": str(told) if told else None})
    else:
        _console().print(again.render(verdict))
        if told:
            _console().print(f"[green]✓[/] {told}: submit it with the card in systems/, by a pull request", soft_wrap=True)
    if not verdict.agrees:
        raise typer.Exit(1)


@app.command()
def conform(
    file: Annotated[str, typer.Argument(help="Your method: a Python file.")],
    task: Annotated[str, typer.Option(help="The task it is for; default: the one the file imports.")] = "",
    as_json: Json = False,
) -> None:
    """Validate a method of your own against the protocol, in seconds, before any long run; exit 1 if it fails."""
    from suite import conform as trial

    steps = []
    console = _console(stderr=as_json)
    for step in trial.conform(file, task):
        steps.append(step)
        mark = "[green]✓[/]" if step.passed else "[red]✗[/]"
        console.print(f"{mark} {step.name}" + (f"\n  [dim]{step.detail}[/]" if step.detail else ""))
    if as_json:
        _print_json([_plain(s) for s in steps])
    if not all(s.passed for s in steps):
        raise typer.Exit(1)


@app.command()
def versions(
    prove: Annotated[
        list[str] | None,
        typer.Option("--prove", metavar="METHOD|TASK|--all", help="Prove that its source gives the base's numbers."),
    ] = None,
    base: Annotated[str, typer.Option(help="The commit to hold the working tree against.")] = "",
    all_: Annotated[bool, typer.Option("--all", help="Prove all of them.")] = False,
    results: Annotated[Path, typer.Option("--results", help="Committed bundles, whose cases and settings are run.")] = RESULTS,
    work: Annotated[Path, typer.Option(help="Where runs of a proof are kept, so that a stopped one goes on.")] = Path(
        "build/proofs"
    ),
    workers: Annotated[int, typer.Option(help="Runs at a time; 0: as many as there are cores.", min=0)] = 0,
    full: Annotated[bool, typer.Option("--full", help="Also rows of the speed division at their full size: minutes each.")] = False,
    as_json: Json = False,
) -> None:
    """Show the versions of tasks and methods; prove that a changed source is still the same version; exit 1 where it is not."""
    from suite import proof
    from suite import versions as lineages

    names = [*(prove or []), *(["--all"] if all_ else [])]
    if not names:
        if base:
            raise UserError("name what to prove: --prove METHOD, --prove TASK or --prove --all")
        found = lineages.every()
        return _print_json([{**_plain(x), "state": x.state} for x in found]) if as_json else _versions_table(found)
    if not base:
        raise UserError("name the commit to hold the working tree against: --base COMMIT")
    _need_results(results)
    with _stoppable(), _progress(quiet=as_json) as bars:
        bar = bars.add_task("proof", total=None)
        verdicts = proof.prove(
            names,
            base,
            results=results,
            folder=work.resolve(),
            workers=workers,
            full=full,
            tell=lambda what, done, total: bars.update(bar, description=what, completed=done, total=total),
        )
    if as_json:
        _print_json([{"name": v.name, "proved": v.proved, "told": v.told, "runs": [_plain(r) for r in v.runs]} for v in verdicts])
    for v in [] if as_json else verdicts:
        mark = "[green]✓[/]" if v.proved else "[red]✗[/]"
        _console().print(f"{mark} {v.name}  [dim]{_escape(v.told)}[/]", soft_wrap=True, highlight=False)
    if not all(v.proved for v in verdicts):
        raise typer.Exit(1)
    return None


def _versions_table(found: Sequence[Lineage]) -> None:
    from rich.table import Table

    table = Table("task or method", "version", "source", "", box=None, pad_edge=False, header_style="dim")
    words = {
        "known": "",
        "raised": "[yellow]a new version: opened by --prove[/]",
        "changed": "[yellow]not in the table: --prove it, or raise the version[/]",
        "lowered": "[red]below the table's version[/]",
    }
    for x in found:
        table.add_row(x.name, str(x.stated), x.digest[:12], words[x.state])
    _console().print(table)


@app.command()
def publish(
    results: Annotated[Path, typer.Option("--results", help="Folder of the results.")] = RESULTS,
    out: Annotated[Path, typer.Option(help="The DuckDB file.")] = Path("build/weighin.duckdb"),
    partitions: Annotated[
        Path | None, typer.Option("--partitions", help="Check, and add what is new to a folder of Parquet partitions instead.")
    ] = None,
    sources: Sources = None,
    in_place: Annotated[
        bool, typer.Option("--in-place", help="With --from: leave the rows where they are, and make views over them.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Load bundles, or partitions of others' bundles, into a DuckDB file; only new bundles are read."""
    from suite.board import store

    if sources and partitions:
        raise UserError("--partitions is written from bundles: leave out --from, whose bundles others have checked")
    if in_place and not sources:
        raise UserError("--in-place is for partitions: name them with --from")
    if sources:
        from suite.board import partitions as parted

        done: Any = parted.publish(sources, out, in_place=in_place)
    elif partitions:
        return _write_partition(results, partitions, as_json)
    else:
        _need_results(results)
        done = store.publish(results, out)
    return _print_json(_plain(done)) if as_json else _console().print(f"[green]✓[/] {out}: {_sentence(_plain(done))}")


def _write_partition(results: Path, folder: Path, as_json: bool) -> None:
    from suite import check as checker
    from suite.board import partitions

    _need_results(results)
    findings = checker.check([results])
    errors = [f for f in findings if f.level == "error"]
    if errors:
        raise UserError(
            f"{errors[0].line()}; `weighin check {results}` shows all {len(errors)}, and nothing is written before they are gone"
        )
    done = partitions.write(results, folder, partitions.Checked(marks=len(findings)))
    if as_json:
        return _print_json(_plain(done))
    told = f"{done.folder}: runs {done.runs}, files {done.files}" if done.folder else f"{folder}: nothing new"
    return _console().print(f"[green]✓[/] {told}", soft_wrap=True, highlight=False)


@app.command()
def site(
    results: Annotated[Path, typer.Option("--results", help="Folder of the results.")] = RESULTS,
    db: Annotated[Path, typer.Option(help="The DuckDB file; made if missing or old.")] = Path("build/weighin.duckdb"),
    out: Annotated[Path, typer.Option(help="Folder of the site.")] = Path("build/site"),
    builder: Annotated[str, typer.Option(help="Builds the pages: mkdocs or zensical.")] = "mkdocs",
    sources: Annotated[Path | None, typer.Option(help="Keep what is built from: a new folder for Markdown and mkdocs.yml.")] = None,
    open_: Annotated[bool, typer.Option("--open", help="Open it in a browser.")] = False,
    origins: Sources = None,
    as_json: Json = False,
) -> None:
    """Write the board: pages from DuckDB, then the static site."""
    from suite import system as machine
    from suite.board import pages, partitions, store

    if origins:
        partitions.publish(origins, db)
    else:
        _need_results(results)
        store.publish(results, db)
    index = pages.build(db, out, results=results, builder=builder, sources=sources) / "index.html"
    mine = index.parent / "systems" / f"{machine.card().hash}.html"
    if as_json:
        _print_json({"index": str(index), "system": str(mine) if mine.is_file() else None})
    else:
        _console().print(f"[green]✓[/] the board: [bold]{index.resolve().as_uri()}[/]", soft_wrap=True)
        if mine.is_file():
            _console().print(f"  what this machine weighed: {mine.resolve().as_uri()}", soft_wrap=True)
    if open_:
        typer.launch(index.resolve().as_uri())


@app.command()
def claims(
    task: Annotated[str, typer.Argument(help="Only this task.")] = "",
    results: Annotated[Path, typer.Option("--results", help="Folder of the results.")] = RESULTS,
    plan: Annotated[
        bool, typer.Option("--plan", help="Of each undecided claim: how many seeds more decide it, and what they cost.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Judge the papers' claims from the bundles: met, not met, no difference, undecided, or why none can be told."""
    from suite import registry
    from suite.board import claims as ledger

    if task:
        registry.task(task)  # or says which there are
    _need_results(results)
    if plan:
        from suite.board import planning

        needs = planning.judge(results, task)
        return _print_json([n.to_json() for n in needs]) if as_json else _console().print(planning.render(needs))
    verdicts = ledger.judge(results, task)
    if as_json:
        return _print_json([_plain(v) for v in verdicts])
    return _console().print(ledger.render(verdicts))


def main() -> None:
    """Entry point: a UserError is one line and exit code 2."""
    try:
        code = app(standalone_mode=False)  # click hands the code of an Exit back
        sys.exit(code if isinstance(code, int) else 0)
    except UserError as e:
        _console(stderr=True).print(f"[bold red]error:[/] {_escape(str(e))}", soft_wrap=True, highlight=False)
        sys.exit(2)
    except typer.Abort:  # what the command line makes of Ctrl-C
        _console(stderr=True).print("stopped; the same command goes on from here", style="yellow")
        sys.exit(130)
    except Exception as e:
        if type(e).__module__.startswith(("click", "typer")) and hasattr(e, "show"):
            e.show()
            sys.exit(2)
        if type(e).__name__ == "Stopped":
            _console(stderr=True).print("stopped; the same command goes on from here", style="yellow")
            sys.exit(130)
        if isinstance(e, OSError) and e.errno in (errno.ENAMETOOLONG, errno.ELOOP):
            told = "is too long a name" if e.errno == errno.ENAMETOOLONG else "is a link that leads back to itself"
            words = f"[bold red]error:[/] {_escape(_short(e.filename or 'a path'))} {told}; name another"
            _console(stderr=True).print(words, soft_wrap=True, highlight=False)
            sys.exit(2)
        if isinstance(e, OSError) and e.errno == errno.ENOSPC:
            _console(stderr=True).print(
                f"[bold red]error:[/] the disk is full ({e.filename or 'while writing'}); make room and run again"
            )
            sys.exit(2)
        raise
    except KeyboardInterrupt:
        _console(stderr=True).print("stopped; the same command goes on from here", style="yellow")
        sys.exit(130)


def _run_shown(todo: Sequence[Order], settings: Settings, card: SystemCard, *, quiet: bool) -> list[Outcome]:
    from suite import sweep

    outcomes = []
    with _stoppable(), _progress(quiet=quiet) as bars:
        whole = bars.add_task(f"{len(todo)} runs", total=len(todo)) if len(todo) > 1 else None
        for outcome in sweep.run_all(todo, settings, card, lambda order: _show(bars, _title(order))):
            outcomes.append(outcome)
            _hide_stages(bars, whole)
            _print_outcome(bars, outcome)
            if whole is not None:
                bars.advance(whole)
    return outcomes


def _print_outcome(bars: Progress, outcome: Outcome) -> None:
    color = GOOD.get(outcome.status, "red")
    age = "" if outcome.fresh else " [dim](was there)[/]"
    bars.console.print(f"[{color}]{outcome.status:8}[/] {_title(outcome.order)}{age}  [dim]{outcome.path}[/]", soft_wrap=True)
    if outcome.reason:
        bars.console.print(f"         {_escape(outcome.reason.splitlines()[0])}", style="red", soft_wrap=True)
    for note in outcome.notes:
        bars.console.print(f"         {_escape(note)}", style="yellow", soft_wrap=True)


def _run_claims(task: str, budget: str, settings: Settings, device: str, data: str, threads: int, *, as_json: bool) -> None:
    """Make the seeds that decide claims; the runs and verdicts as they land, at the end what is left.

    Long, as all of it is shown while it lands.
    """
    from suite import deciding, naming, place, registry
    from suite import system as machine
    from suite.board import claims as ledger
    from suite.board import planning

    if task:
        registry.task(task)  # or says which there are
    if not budget:
        raise UserError("--claims takes time: say how much with --budget, such as 6h")
    allowed = naming.seconds(budget)
    _need_results(settings.out)
    for folder in (settings.out, settings.work):
        place.check_writable(folder)
    outcomes: list[Outcome] = []
    looked: list[deciding.Looked] = []
    left: list[deciding.Left] = []
    with _stoppable(), _progress(quiet=as_json) as bars:
        whole = bars.add_task(f"claims, {planning.length(allowed)}", total=allowed)

        def show(order: Order) -> Callable[[str, Mapping[str, Any]], None]:
            tell = _show(bars, f"{order.spec.task} {_title(order)}")

            def told(stage: str, event: Mapping[str, Any]) -> None:
                bars.update(whole, completed=allowed - session.remaining)
                tell(stage, event)

            return told

        session = deciding.Session(settings, machine.card(device, threads), allowed, show, task, device, data, threads)
        for found in session.run():
            _hide_stages(bars, whole)
            bars.update(whole, completed=allowed - session.remaining)
            if isinstance(found, deciding.Looked):
                looked.append(found)
                v = found.verdict
                line = f"[{ledger.STYLES[v.verdict]}]{ledger.SIGNS[v.verdict]} {v.verdict}[/] {v.task} {_escape(v.method)}: "
                bars.console.print(f"{line}{_escape(v.claim)}  [dim]{_escape(ledger.ours(v))}[/]", soft_wrap=True)
            elif isinstance(found, deciding.Left):
                left.append(found)
                told = f"{found.need.task} {found.need.method}: {found.need.claim}: {found.reason}"
                bars.console.print(f"left     {_escape(told)}", style="yellow", soft_wrap=True)
            else:
                outcomes.append(found)
                _print_outcome(bars, found)
    decided = {(x.need.task, x.need.place): x.verdict for x in looked if x.verdict.verdict != "undecided"}
    spent = round(allowed - session.remaining, 1)
    if as_json:
        runs = [{"status": o.status, "path": str(o.path), "fresh": o.fresh, "reason": o.reason} for o in outcomes]
        _print_json(
            {
                "budget_seconds": allowed,
                "spent_seconds": spent,
                "ended": "budget" if session.spent else "nothing left to run",
                "runs": runs,
                "looks": [_plain(x.verdict) for x in looked],
                "left": [{"task": x.need.task, "claim": x.need.claim, "reason": x.reason} for x in left],
            }
        )
    else:
        end = (
            "the budget is spent: the same command goes on from here"
            if session.spent
            else "no claim is left that seeds decide here"
        )
        _console().print(f"{len(outcomes)} runs in {planning.length(spent)}, {len(decided)} claims decided; {end}", soft_wrap=True)
    if any(o.status not in GOOD for o in outcomes):
        raise typer.Exit(1)


def _finish(outcomes: Sequence[Outcome], as_json: bool, mend: str = "the same command with --retry goes on from there") -> None:
    from suite import bundle

    records = [None if o.status == "solved" else bundle.read(o.path) for o in outcomes]
    if as_json:
        _print_json(
            [
                {
                    "status": o.status,
                    "path": str(o.path),
                    "fresh": o.fresh,
                    "reason": o.reason,
                    "kept": str(o.kept) if o.kept else None,
                    "run": r and r.model_dump(mode="json"),
                }
                for o, r in zip(outcomes, records, strict=True)
            ]
        )
    else:
        _results_table([r for r in records if r is not None])
    for o in outcomes:
        if o.kept is not None:
            words = f"{_title(o.order)}: what was solved is kept in {o.kept}; {mend}"
            _console(stderr=True).print(words, style="yellow", highlight=False, soft_wrap=True)
    missed = [(o, told) for o, r in zip(outcomes, records, strict=True) if r is not None for told in _missed(r)]
    for o, told in missed:
        _console(stderr=True).print(f"off target: {_title(o.order)}: {told}", style="yellow", highlight=False, soft_wrap=True)
    if missed or any(o.status not in GOOD for o in outcomes):
        raise typer.Exit(1)


def _missed(record: RunRecord) -> list[str]:
    """Where an ok run kept another share than was asked: the board keeps such a row, marked and unranked."""
    found = [a for a in record.asked() if not a.met] if record.status == "ok" else []
    kept = ["nothing" if a.kept is None else f"{a.kept:.3g}" for a in found]
    return [
        f"kept {share} of {a.name} where {a.wanted:g} was asked; it is shown and not ranked"
        for a, share in zip(found, kept, strict=True)
    ]


def _submitted(todo: Sequence[Order], done: Sequence[Submitted], as_json: bool) -> None:
    """What a cluster was given, what it has already, and by name what it is given again, and why."""
    from suite import standing

    rows = []
    for order, d in zip(todo, done, strict=True):
        stood = d.before or standing.Standing(order, "missing")
        row = _standing_row(stood)
        rows.append(row | ({"state": "submitted", "job": d.job, "before": row["reason"]} if d.job else {}))
    if as_json:
        _print_json(rows)
    given = [d.job for d in done if d.job]
    words = [f"submitted {len(given)} run{'s' * (len(given) != 1)}" + (f" as {_jobs(given)}" if given else "")]
    for state, told in (("ok", "have their bundles"), ("solved", "are solved"), ("running", "run"), ("waiting", "wait")):
        if count := sum(r["state"] == state for r in rows):
            words.append(f"{count} {told}")
    failed = [d.before for d in done if d.before and d.before.state == "failed" and not d.job]
    if not as_json:
        _console().print("; ".join(words), highlight=False, soft_wrap=True)
        _console().print("[dim]weighin status shows how they stand[/]")
    for d in done:
        if d.before and d.job and d.before.reason:
            told = f"{d.before.name}: {d.before.reason}; submitted again as {d.job}"
            if "; " in d.before.mend:
                told += f": {d.before.mend.rpartition('; ')[0]}"
            _console(stderr=True).print(told, style="yellow", highlight=False, soft_wrap=True, markup=False)
    for stood in failed:
        told = "; ".join(filter(None, [f"{stood.name}: {stood.reason}", stood.mend]))
        _console(stderr=True).print(told, style="red", highlight=False, soft_wrap=True, markup=False)
    if failed:
        raise typer.Exit(1)


def _jobs(jobs: Sequence[str]) -> str:
    """Ids of jobs in a few words: an array's by one."""
    arrays = dict.fromkeys(j.partition("_")[0] for j in jobs)
    return f"job{'s' * (len(arrays) > 1)} {', '.join(arrays)}"


def _standing_row(s: Standing) -> dict[str, Any]:
    from suite import standing

    spec = s.order.spec
    told = {f: getattr(spec, f) for f in ("task", "tier", "division", "case", "target", "seed")}
    told |= {"method": s.order.method, "variant": s.order.variant, "state": s.state, "job": s.job, "reason": s.reason}
    return told | {
        "mend": s.mend,
        "path": s.path,
        "node": s.node,
        "stage": s.stage,
        "since": s.since,
        "run": standing.identity(s.order),
    }


COLOURS = {"ok": "green", "solved": "green", "running": "blue", "waiting": "dim", "failed": "red", "missing": "yellow"}
LINES = 12  #: of the screen for runs that are told one by one


def _sweep_screen(found: Sequence[Standing]) -> RenderableType:
    """The whole sweep on one screen: a bar, a row a method, and by name what runs, and what failed and why."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from suite import standing

    counts = {state: n for state, n in standing.counts(found).items() if n}
    bar, told, width = Text(), Text(f"{len(found)} run{'s' * (len(found) != 1)}: "), 60
    for at, (state, n) in enumerate(counts.items()):
        bar.append("━" * max(1, round(width * n / len(found))), style=COLOURS[state])
        told.append(", " * (at > 0)).append(f"{n} {state}", style=COLOURS[state])
    groups: dict[tuple[str, ...], list[Standing]] = {}
    for s in found:
        o = s.order
        groups.setdefault((o.spec.task, o.spec.case, " ".join(filter(None, [o.method, o.variant])), o.spec.target), []).append(s)
    table = Table("task", "case", "method", "target", *counts, box=SIMPLE_HEAD, pad_edge=False)
    for column in table.columns[4:]:
        column.justify = "right"
    for names, members in groups.items():
        numbers = standing.counts(members)
        table.add_row(*map(_escape, names), *(str(numbers[state] or "") for state in counts))
    parts: list[RenderableType] = [bar, told, table]
    for state in ("failed", "missing", "running"):
        members = [s for s in found if s.state == state]
        for s in members[:LINES]:
            where = " ".join(
                filter(None, [s.job and f"job {s.job}", s.stage, s.node and f"on {s.node}", s.since and f"since {s.since}"])
            )
            line = Text(f"{state:8}", style=COLOURS[state]).append(f" {s.name}", style="default")
            parts.append(line.append(f"  {where}", style="dim") if state == "running" else line)
            if state != "running":
                parts.append(Text("         " + "; ".join(filter(None, [s.reason, s.mend])), style="dim"))
        if members[LINES:]:
            parts.append(Text(f"         and {len(members) - LINES} more: --json tells of all", style="dim"))
    if counts.get("solved"):
        parts.append(Text("solved   weighin weigh WORK … weighs them on a quiet machine: --json tells where they lie", style="dim"))
    if reasons := Counter(s.reason for s in found if s.state == "waiting" and s.reason):
        parts.append(Text("waiting  " + ", ".join(f"{reason} ({n})" for reason, n in reasons.most_common(4)), style="dim"))
    return Group(*parts)


def _watched(look: Callable[[], list[Standing]], found: list[Standing], *, quiet: bool) -> list[Standing]:
    """Look again until nothing waits or runs; the screen is drawn anew each time."""
    from rich.live import Live

    from suite import standing

    with contextlib.ExitStack() as shown:
        console = _console(stderr=True)
        live = (
            None if quiet else shown.enter_context(Live(_sweep_screen(found), console=console, transient=True, auto_refresh=False))
        )
        pause = 1.0
        while any(s.state in standing.ACTIVE for s in found):
            time.sleep(pause)
            pause = min(30.0, pause * 1.3)  # a scheduler is asked seldom once a sweep takes long
            found = look()
            if live is not None:
                live.update(_sweep_screen(found), refresh=True)
    return found


def _results_table(records: Sequence[Any]) -> None:
    """What was weighed: the ranked measure, speed-up and saving, and what stands beside them as far as the window is wide."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from suite import registry

    good = [r for r in records if r.status == "ok"]
    if not good:
        return
    card = registry.task_of(good[0].spec)
    shares = card.show.shares or {card.promised: ""}
    beside = dict.fromkeys(q for r in good for q in registry.task_of(r.spec).beside)
    wanted = [
        *dict.fromkeys(registry.task_of(r.spec).ranked for r in good),
        f"speedup:{card.speed}",
        *shares,
        "train_seconds",
        *beside,
    ]
    runs = [
        ("method", [r.method.name for r in good]),
        ("setting", [r.method.variant for r in good]),
        ("target", [r.spec.target for r in good]),
        ("seed", [str(r.spec.seed) for r in good]),
    ]
    runs = [(head, cells) for head, cells in runs if any(cells)]
    columns = runs + [_column(good, name, shares.get(name, "")) for name in wanted if name]
    console = _console()
    # heads may break between words, numbers may not
    widths = [max(len(word) for word in [*head.split(), *cells]) for head, cells in columns]
    count = max(len(runs), sum(sum(widths[: i + 1]) + 3 * i + 2 <= console.width for i in range(len(widths))))
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for i, (head, _) in enumerate(columns[:count]):
        table.add_column(head, justify="left" if i < len(runs) else "right", width=widths[i])
    for cells in zip(*(cells for _, cells in columns[:count]), strict=True):
        table.add_row(*cells)
    console.print(table)
    if columns[count:]:
        console.print(
            f"[dim]a wider window shows {', '.join(head for head, _ in columns[count:])}; --json has all[/]", soft_wrap=True
        )


def _column(records: Sequence[Any], measure: str, head: str) -> tuple[str, list[str]]:
    """A measure (``name`` or ``name:part``) of some runs: its head with the unit, and a cell a run."""
    from suite.board.statistics import decimals

    name, _, part = measure.partition(":")
    found = [record.measure(name, part) for record in records]
    unit = next((m.unit for m in found if m and m.unit), "")
    head = head or f"{name} {part}".strip().replace("_", " ").removesuffix(" seconds")
    cells = []
    for m in found:
        half = (m.high - m.low) / 2 if m and m.low is not None and m.high is not None else 0.0
        places = decimals(half, most=4)
        cells.append("–" if m is None else f"{m.value:.{places}f} ±{half:.{places}f}" if half else f"{m.value:.4g}")
    return f"{head} {unit}".strip(), cells


def _title(order: Order) -> str:
    return " ".join(
        filter(None, [order.method, order.variant and f"({order.variant})", order.spec.target, f"seed {order.spec.seed}"])
    )


def _show(bars: Progress, title: str) -> Callable[[str, Mapping[str, Any]], None]:
    """A callback that moves one bar through the stages of one run."""
    bar = bars.add_task(title, total=None)

    def tell(stage: str, event: Mapping[str, Any]) -> None:
        values = " ".join(f"{k} {v:.4g}" for k, v in event.get("values", {}).items())
        if stage == "weigh" or stage.startswith("memory"):
            bars.stop()  # a bar that redraws itself takes the cores that are being timed
        else:
            bars.start()
        bars.update(
            bar,
            description=f"{title} · {stage} {event.get('what', '')} [dim]{values}[/]",
            completed=event["done"],
            total=event["total"],
        )

    return tell


def _hide_stages(bars: Progress, whole: TaskID | None) -> None:
    """Of a run that is done no bar stays, but the one of all runs."""
    for bar in bars.task_ids:
        bars.update(bar, visible=bar == whole)


def _progress(*, quiet: bool) -> Progress:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(24),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=_console(stderr=True),
        disable=quiet,
    )


class _stoppable:  # noqa: N801  (reads as a with-statement)
    """SIGTERM, a closed terminal and Ctrl-C become one orderly stop."""

    def __enter__(self) -> None:
        def stop(*_: object) -> None:
            raise KeyboardInterrupt

        self._before = {kind: signal.signal(kind, stop) for kind in (signal.SIGTERM, signal.SIGHUP)}

    def __exit__(self, *_: object) -> None:
        for kind, before in self._before.items():
            signal.signal(kind, before)


def _settings(out: Path) -> Settings:
    from suite import runner

    return runner.Settings(out, _work(out), retry=True)


def _work(out: Path) -> Path:
    return Path(os.environ.get("WEIGHIN_WORK") or out / ".work").resolve()


def _check_device(device: str, threads: int = 0) -> None:
    from suite import system as machine

    machine.check_machine(device, threads)


def _need_results(results: Path) -> None:
    if not os.path.isdir(results):
        raise UserError(f"no folder {_short(results)}; run `weighin run` first, or name the results with --results")


def _short(path: object) -> str:
    """A path in one line, whatever it is called."""
    from suite.checks.findings import printable

    return printable(str(path), 120)


def _console(*, stderr: bool = False) -> Console:
    from rich.console import Console

    return Console(stderr=stderr)


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=1, ensure_ascii=False, default=str))


def _plain(value: Any) -> Any:
    import dataclasses

    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value


def _flat(value: Mapping[str, Any], before: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, item in value.items():
        if isinstance(item, Mapping):
            rows += _flat(item, f"{before}{key}.")
        else:
            rows.append((f"{before}{key}", ", ".join(map(str, item)) if isinstance(item, list) else str(item)))
    return rows


def _sentence(fields: Any) -> str:
    return ", ".join(f"{k} {v}" for k, v in fields.items()) if isinstance(fields, dict) else str(fields)


if __name__ == "__main__":
    main()
