#!/usr/bin/env node
// Checks the Promela models of docs/model with Spin: each must hold as it is, and fail with each of its faults.
// Without spin or a C compiler it says what to install and skips; with LANEGATE_REQUIRE_MODEL=1 a skip is a failure.

import { execFile } from 'node:child_process';
import { copyFile, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);
const MODELS = fileURLToPath(new URL('../docs/model/', import.meta.url));
const TIMEOUT_MS = 120_000;
const TOGETHER = 2;

const gate = (name, defines, expected = 'holds', how = 'safety') => ({
  model: 'lanegate.pml',
  name,
  defines,
  expected,
  how,
});

const journal = (name, defines, expected) => ({ ...gate(name, defines, expected), model: 'journal.pml' });

const ASSERTION = 'assertion violated';
const DEADLOCK = 'invalid end state';
const ONE = ['WORKERS=1', 'CRASHES=0'];
const ONE_DIES = ['WORKERS=1', 'CRASHES=1'];

const CHECKS = [
  gate('two processes per lane, gate jobs that come early', ['WORKERS=2', 'CRASHES=0']),
  gate('a process dies', ONE_DIES),
  gate('the target falls back to an older state', [...ONE_DIES, 'FAILOVER']),
  gate('three lanes', [...ONE_DIES, 'LANES=3', 'N=10']),
  gate('jobs and pauses, a process dies, a wake-up is lost', [...ONE_DIES, 'HINTS', 'LOSSES=1']),
  gate('everything is applied in the end', [...ONE, 'HINTS', 'LOSSES=1', 'NO_GATE_JOB'], 'holds', 'liveness'),

  gate(
    'PAUSE_FIRST: pausing before the lanes have arrived',
    [...ONE, 'HINTS', 'LOSSES=0', 'PAUSE_FIRST'],
    DEADLOCK,
  ),
  gate('NO_LANE_FENCE: a chunk that is not fenced', ['WORKERS=2', 'CRASHES=0', 'NO_LANE_FENCE'], ASSERTION),
  gate('NO_GATE_FENCE: a gate that is not fenced', [...ONE, 'NO_GATE_FENCE'], ASSERTION),
  gate('NO_REWRITE: a flush erases the checkpoints', [...ONE, 'NO_REWRITE'], DEADLOCK),
  gate('MISSING_IS_ZERO: and a missing one is taken for 0', [...ONE, 'MISSING_IS_ZERO'], ASSERTION),
  gate('NO_GATE_IDENTITY: that a gate ran is not in its EXEC', [...ONE_DIES, 'NO_GATE_IDENTITY'], ASSERTION),
  gate('NO_ARRIVAL: a gate does not look who has arrived', [...ONE, 'NO_ARRIVAL'], ASSERTION),
  gate('ACK_FIRST: the checkpoint before the data', [...ONE_DIES, 'ACK_FIRST'], ASSERTION),
  gate('APPLY_FIRST: the data before the checkpoint', [...ONE_DIES, 'APPLY_FIRST'], ASSERTION),
  gate(
    "ITEM_PREDECESSOR: a chunk let through by its item's predecessor",
    [...ONE_DIES, 'ITEM_PREDECESSOR'],
    ASSERTION,
  ),
  gate(
    'NO_WATCHDOG: a wake-up is lost and nobody looks',
    [...ONE, 'HINTS', 'LOSSES=1', 'NO_WATCHDOG'],
    DEADLOCK,
  ),

  journal('the journal is lost or comes back older', ['INGESTS=1', 'N=4', 'IDS=3'], 'holds'),
  journal('NO_EPOCH: a commit by whoever was overtaken', ['N=3', 'IDS=1', 'NO_EPOCH'], ASSERTION),
  journal(
    'NO_SECOND_LOOK: a journal fell back while it was taken over',
    ['INGESTS=1', 'NO_SECOND_LOOK'],
    ASSERTION,
  ),
  journal('ACK_HEAD: the source forgets what is not applied', ['INGESTS=1', 'ACK_HEAD'], ASSERTION),
  journal('NO_MARK_FENCE: a gate puts an older mark back', ['INGESTS=1', 'NO_MARK_FENCE'], ASSERTION),
  journal('ERASE_MARK: a gate puts none back', ['INGESTS=1', 'ERASE_MARK'], ASSERTION),
];

async function missing() {
  const found = async (command, flag) =>
    run(command, [flag]).then(
      () => true,
      () => false,
    );
  const packages = [];
  if (!(await found('spin', '-V'))) packages.push('spin');
  if (!(await found('gcc', '--version'))) packages.push('gcc libc6-dev');
  return packages;
}

/** In a directory of its own: spin writes beside itself. */
async function check({ model, defines, how }) {
  const directory = await mkdtemp(join(tmpdir(), 'lanegate-model-'));
  const options = { cwd: directory, timeout: TIMEOUT_MS, maxBuffer: 16 * 1024 * 1024 };
  try {
    await copyFile(join(MODELS, model), join(directory, model));
    await run('spin', ['-a', ...defines.map((define) => `-D${define}`), model], options);
    const claim = how === 'liveness' ? ['-DNFAIR=4'] : ['-DSAFETY', '-DNOCLAIM'];
    await run('gcc', ['-O2', '-DCOLLAPSE', ...claim, '-o', 'pan', 'pan.c'], options);
    const { stdout } = await run(
      './pan',
      ['-m400000', '-n', ...(how === 'liveness' ? ['-a', '-f'] : [])],
      options,
    );
    return read(stdout);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

function read(output) {
  const errors = Number(/errors: (\d+)/.exec(output)?.[1] ?? Number.NaN);
  const states = Number(/^\s*([\d.e+]+) states, stored/m.exec(output)?.[1] ?? Number.NaN);
  // A search that was cut short proves nothing.
  const isWhole = !/max search depth too small|out of memory|Search not completed/.test(output);
  if (errors === 0) return { states, result: isWhole && states > 0 ? 'holds' : 'not searched to the end' };
  const found = [ASSERTION, DEADLOCK, 'acceptance cycle'].find((what) => output.includes(`pan:1: ${what}`));
  return { states, result: found ?? output.trim().split('\n')[0] ?? 'nothing' };
}

async function report(one) {
  const startedMs = performance.now();
  const { states, result } = await check(one).catch((error) => ({
    states: Number.NaN,
    result: String(error.message).split('\n')[0],
  }));
  const seconds = ((performance.now() - startedMs) / 1_000).toFixed(1);
  const asExpected = result === one.expected;
  const verdict = asExpected ? 'ok' : `NOT AS EXPECTED (${one.expected})`;
  console.log(
    `${verdict.padEnd(4)}${String(states).padStart(10)} states ${seconds.padStart(5)} s  ${result.padEnd(18)}  ${one.name}`,
  );
  return asExpected;
}

const lacking = await missing();
if (lacking.length > 0) {
  console.log(`skipped: apt-get install ${lacking.join(' ')}`);
  process.exitCode = process.env.LANEGATE_REQUIRE_MODEL === '1' ? 1 : 0;
} else {
  const waiting = [...CHECKS];
  let failed = 0;
  const worker = async () => {
    for (let next = waiting.shift(); next; next = waiting.shift()) if (!(await report(next))) failed++;
  };
  await Promise.all(Array.from({ length: TOGETHER }, worker));
  console.log(`${CHECKS.length - failed} of ${CHECKS.length} as expected`);
  process.exitCode = failed === 0 ? 0 : 1;
}
