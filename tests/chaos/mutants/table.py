"""Seeded bugs: mistakes that somebody could make, each as a replacement of text in the product.

A text that no longer stands there exactly once is drift, and fails loudly: the mistake must be seeded anew.
"""

from typing import NamedTuple

RUNS = "services/planner/headrace_planner/runs"
APPROVALS = "services/gatekeeper/headrace_gatekeeper/approvals"
HOST = "shared/headrace/host"
LOG = "shared/headrace/log"
WORKER = "shared/headrace/worker"
COMMIT = "        outcome = await self._committer.commit(draft)\n"


class Edit(NamedTuple):
    """One replacement: in which file, what, by what."""

    path: str
    old: str
    new: str


class Mutant(NamedTuple):
    """A mistake: what it is called, how it is made, and (`tests`) which tests notice it where no simulation runs."""

    name: str
    edits: tuple[Edit, ...]
    tests: tuple[str, ...] = ()


MUTANTS = (
    Mutant(
        "answered before it is committed",
        (
            Edit(
                f"{HOST}/pipeline.py",
                COMMIT,
                "        for part in draft.parts.values():\n"
                "            for item in part.items:\n"
                "                if item.reply is not None and item.outcome is not None:\n"
                "                    item.reply(item.outcome)\n" + COMMIT,
            ),
        ),
    ),
    Mutant(
        "messages between streams leave before the commit",
        (
            Edit(
                f"{HOST}/pipeline.py",
                COMMIT,
                "        for part in draft.parts.values():\n"
                "            for sent in part.effects:\n"
                "                self._publisher._send(part, sent)\n" + COMMIT,
            ),
        ),
    ),
    Mutant(
        "no fence: epoch and position are not looked at",
        (
            Edit(
                f"{LOG}/memory.py",
                "part is not None and part.epoch == batch.epoch and part.last == batch.expected_position",
                "part is not None",
            ),
        ),
    ),
    Mutant(
        "an append without an answer counts as done",
        (
            Edit(
                f"{HOST}/committing.py",
                "        except (UnavailableError, TimeoutError):\n"
                "            outcome.over.extend(part.held for part in parts)\n"
                "            return outcome\n",
                "        except (UnavailableError, TimeoutError):\n"
                "            for part in parts:\n"
                "                outcome.standing.append((part, part.held.position))\n"
                "            return outcome\n",
            ),
        ),
    ),
    Mutant(
        "an append that a kept key refused counts as done",
        (
            Edit(
                f"{HOST}/committing.py",
                "            if appended.kept is not None and held.place not in appended.stale:\n                continue\n",
                "            if appended.kept is not None and held.place not in appended.stale:\n"
                "                outcome.kept = None\n"
                "                outcome.standing.append((part, held.position))\n"
                "                continue\n",
            ),
        ),
    ),
    Mutant(
        "what was decided behind an append that a kept key refused stands",
        (
            Edit(
                f"{HOST}/pipeline.py",
                "behind, self._draft = self._draft, Draft(self._draft.number + 1)",
                "behind = self._draft",
            ),
            Edit(f"{HOST}/pipeline.py", "undo((draft, behind), self._states)", "undo((draft,), self._states)"),
        ),
    ),
    Mutant(
        "what is kept under a key is not looked at by the append",
        (
            Edit(
                f"{LOG}/bodies.py",
                "for one in batches for answer in one.answers",
                "for one in batches for answer in one.answers[:0]",
            ),
        ),
    ),
    Mutant(
        "the reader believes the feed and reads no gaps",
        (
            Edit(
                "shared/headrace/testing/simulation/reader.py",
                "        for event in _feed.decode(data):\n",
                "        for event in _feed.decode(data):\n"
                "            self._readings[event.partition].seen.append(event.position)\n",
            ),
        ),
    ),
    Mutant(
        "a timer is lost: waits are not among the times to wake",
        (
            Edit(
                f"{RUNS}/times.py",
                "if known.due_at is not None and not run.halted:",
                "if known.due_at is not None and known.due_at < 0:",
            ),
        ),
    ),
    Mutant(
        "a nonce that is not drawn: two workers hold the same permission",
        (
            Edit(
                f"{WORKER}/claims.py",
                "nonce = self._clock.entropy()[:NONCE_BYTES].hex()",
                "nonce = order.attempt_id[:NONCE_BYTES]",
            ),
        ),
    ),
    Mutant(
        "a claim is granted twice",
        (
            Edit(
                f"{RUNS}/attempts.py",
                "    if trial.nonce is not None:\n"
                '        return Rejection(ConflictError(f"{who} is already claimed by {trial.claimed_by}"))\n',
                "",
            ),
        ),
    ),
    Mutant(
        "an effect without a claim",
        (
            Edit(
                f"{WORKER}/tool_runner.py",
                "permission = await self._claimer.claim(order) if order.effect in ACTS else None",
                "permission = None",
            ),
        ),
    ),
    Mutant(
        "evolve forgets that a step was skipped",
        (
            Edit(
                f"{RUNS}/evolve.py",
                "            end(run, step, StepStatus.SKIPPED, at)",
                "            run.step(step).reason = reason",
            ),
        ),
    ),
    Mutant(
        "evolve forgets a claim",
        (
            Edit(
                f"{RUNS}/outcomes.py",
                "        trial.nonce, trial.claimed_by, trial.claimed_at = event.nonce, event.worker, at\n",
                "        trial.claimed_by, trial.claimed_at = event.worker, at\n",
            ),
        ),
    ),
    Mutant(
        "a late result counts",
        (
            Edit(
                f"{RUNS}/attempts.py",
                "    if trial is None or trial.attempt != command.attempt or run.final:\n        return _late",
                "    if trial is None or run.final:\n        return _late",
            ),
            Edit(
                f"{RUNS}/attempts.py",
                "    if command.attempt_id != run.attempt_id(instance, trial.attempt):\n"
                "        if run.graph.index[command.step].parent:",
                "    if command.attempt_id != run.attempt_id(instance, command.attempt):\n"
                "        if run.graph.index[command.step].parent:",
            ),
            Edit(
                f"{RUNS}/attempts.py",
                "    if trial.idle and trial.unknown is None:\n",
                "    if trial.idle and False:\n",
            ),
        ),
    ),
    Mutant(
        "a retry that never stops",
        (
            Edit(
                f"{RUNS}/attempts.py",
                "wanted = tries < retry.max_attempts and",
                "wanted = True and",
            ),
        ),
    ),
    Mutant(
        "a write that may not be repeated is tried again when its worker is lost",
        (
            Edit(
                f"{RUNS}/attempts.py",
                "    if doubts.unsafe(run, command.step, trial):\n"
                "        return (doubts.lost(run, (command.step, command.index), trial),)\n",
                "",
            ),
        ),
    ),
    Mutant(
        "a cancelled run goes on",
        (
            Edit(
                f"{RUNS}/evolve.py",
                "finish(run, RunStatus.CANCELLED, at)",
                "finish(run, RunStatus.RUNNING, at)",
            ),
        ),
    ),
    Mutant(
        "gated tools need nobody's approval",
        (
            Edit(
                f"{RUNS}/state.py",
                "        if step.compensates or not self.graph.gated(step_id) or self.data.authorized:",
                "        if step.compensates or not step.compensates:",
            ),
        ),
    ),
    Mutant(
        "one person is quorum enough",
        (Edit(f"{APPROVALS}/decide.py", "if len(state.approvers) + 1 >= opened.quorum:", "if opened.quorum:"),),
    ),
    Mutant(
        "an idempotency key is forgotten with its owner",
        (Edit(f"{HOST}/deciding.py", "                    part.answers.append(kept)\n", ""),),
    ),
    Mutant(
        "a new owner sets nothing going",
        (
            Edit(
                f"{HOST}/tenures.py",
                "for one in await self._log.busy(held.log, held.partition)]",
                "for one in (await self._log.busy(held.log, held.partition))[:0]]",
            ),
        ),
    ),
    Mutant(
        "a dead worker is never noticed, nor forgotten, nor that its time is over",
        (
            Edit(
                f"{HOST}/presence.py",
                "        return silence is None or silence >= self._cadence.lost_s",
                "        return silence is None",
            ),
            Edit(
                f"{HOST}/presence.py",
                "if self.proven - seen.heard >= self._cadence.forgotten_s:",
                "if self.proven < 0:",
            ),
            Edit(
                f"{RUNS}/attempts.py",
                "    return _failed(\n"
                "        run, _as_report(run, command, AttemptStatus.TIMED_OUT, command.worker, context, error), trial, context\n"
                "    )\n",
                "    return ()\n",
            ),
        ),
    ),
    Mutant(
        "a skipped step is left out of its rows",
        (
            Edit(
                f"{RUNS}/rows.py",
                "        if _untouched(run, step_id, known):",
                "        if _untouched(run, step_id, known) or known.reason:",
            ),
        ),
    ),
    Mutant(
        "the chain does not follow from the link before",
        (
            Edit(
                f"{LOG}/chain.py",
                "return hashlib.sha256(previous + leaves).digest()",
                "return hashlib.sha256(leaves).digest()",
            ),
        ),
    ),
    Mutant(
        "what two workers made of one chain is mixed",
        (
            Edit(
                f"{RUNS}/fusion.py",
                "        return digest_for(run, library, (command.step, None)) == command.arguments_digest\n",
                "        return bool(digest_for(run, library, (command.step, None)))\n",
            ),
        ),
        tests=("tests/planner/test_runs_fusion.py",),
    ),
    Mutant(
        "results of a chain are recorded together that were not made of each other",
        (
            Edit(
                f"{RUNS}/chains.py",
                '    return digest if digest == report.arguments_digest else ""\n',
                "    return digest\n",
            ),
        ),
        tests=("tests/planner/test_runs_chains.py",),
    ),
)
