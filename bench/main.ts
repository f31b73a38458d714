// `npm run bench -- [--only drain,latency] [--runs 3] [--commands 2000000] [--json] [--out FILE] [--write]`
// `npm run bench -- --compare FILE`  what became slower than the run that `--out FILE` stored; then exit code 1
// `npm run bench -- --profile DIR`   profiles instead of figures
// For an experiment: --node-args="--max-semi-space-size=32" --worker-args="--chunk-bytes 512kb"

import { readFileSync, writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { packageRoot } from '../src/runtime/package.ts';
import { ceilingOnce } from './ceiling.ts';
import { compare, shownChanges } from './compare.ts';
import { BY_ROLE, drainRuns, fillDrain, ONE, TWO } from './drain.ts';
import { median, medianRun } from './figures.ts';
import { type Gates, gatesOnce } from './gates.ts';
import { growthOnce } from './growth.ts';
import { type Latency, latencyOnce, RATES } from './latency.ts';
import { machineFacts } from './machine.ts';
import { mixRuns } from './mix.ts';
import { profileDrains } from './profile.ts';
import { fullRuns, incrementalRuns, pauseRuns } from './replication.ts';
import { report, writeMarkdown } from './report.ts';
import type { Results } from './results.ts';
import { say } from './say.ts';
import { Bench, type Settings } from './support.ts';

const PARTS = [
  'ceiling',
  'drain',
  'roles',
  'mix',
  'fullsync',
  'incremental',
  'pause',
  'latency',
  'gates',
  'growth',
] as const;
type Part = (typeof PARTS)[number];

interface Request extends Settings {
  readonly parts: ReadonlySet<Part>;
  readonly json: boolean;
  readonly out: string | undefined;
  readonly write: boolean;
  /** A stored run, and the file that it is from. */
  readonly compare: { readonly file: string; readonly stored: Results } | undefined;
  readonly profile: string | undefined;
}

/** @throws Error that names what is wrong */
function parse(args: string[]): Request {
  const { values } = parseArgs({
    args,
    options: {
      only: { type: 'string', default: PARTS.join(',') },
      runs: { type: 'string', default: '3' },
      commands: { type: 'string', default: '2000000' },
      json: { type: 'boolean', default: false },
      out: { type: 'string' },
      write: { type: 'boolean', default: false },
      compare: { type: 'string' },
      profile: { type: 'string' },
      'node-args': { type: 'string', default: '' },
      'worker-args': { type: 'string', default: '' },
    },
  });
  const names = values.only.split(',');
  const unknown = names.filter((name) => !(PARTS as readonly string[]).includes(name));
  if (unknown.length > 0) throw new Error(`--only: ${unknown.join(', ')} is not of ${PARTS.join(', ')}`);
  return {
    parts: new Set(names as Part[]),
    runs: atLeastOne('--runs', values.runs),
    commands: atLeastOne('--commands', values.commands),
    json: values.json,
    out: values.out,
    write: values.write,
    compare: values.compare === undefined ? undefined : stored(values.compare),
    profile: values.profile,
    nodeArgs: words(values['node-args']),
    workerArgs: words(values['worker-args']),
  };
}

/** Read before the measuring: a wrong name is not to be found out after many minutes. */
function stored(file: string): NonNullable<Request['compare']> {
  const found = JSON.parse(readFileSync(file, 'utf8')) as Results;
  const isOurs = Array.isArray(found.failures) && Array.isArray(found.latency ?? []);
  if (!isOurs) throw new Error(`--compare: ${file} was not written by --out of this version`);
  return { file, stored: found };
}

function words(text: string): string[] {
  return text.split(' ').filter((word) => word !== '');
}

function atLeastOne(name: string, text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 1) throw new Error(`${name} must be a number of at least 1`);
  return value;
}

/** The ceiling is measured before and after what is set against it: a machine's speed drifts. */
async function measure(bench: Bench, request: Request): Promise<Results> {
  const { parts, runs, commands } = request;
  const { nodeArgs, workerArgs } = request;
  const machine = await machineFacts(bench);
  const results: Results = { machine, runs, commands, nodeArgs, workerArgs, failures: [] };
  const part = async (name: Part, work: () => Promise<void>) => {
    if (!parts.has(name)) return;
    try {
      await work();
    } catch (error) {
      // What was measured before, in many minutes, is not to be lost.
      const failure = `${name}: ${error instanceof Error ? error.message : String(error)}`;
      say(failure);
      results.failures.push(failure);
    }
    // Nor in a run that is ended on the way.
    if (request.out !== undefined) store(request.out, results);
  };
  const ceilings: number[] = [];
  const ceiling = async () => {
    for (let i = 0; i < runs; i++) ceilings.push(await ceilingOnce(bench));
    results.ceiling = { perSecond: median(ceilings), perSecondOfRuns: ceilings };
  };
  await part('ceiling', ceiling);
  if (parts.has('drain') || parts.has('roles')) {
    const filled = await fillDrain(bench);
    await part('drain', async () => {
      const oneWorker = await drainRuns(bench, filled, ONE);
      results.drain = { oneWorker };
      results.drain.twoWorkers = await drainRuns(bench, filled, TWO);
    });
    await part('roles', async () => {
      results.byRole = await drainRuns(bench, filled, BY_ROLE);
    });
    await bench.source.client().del(filled.key);
  }
  await part('mix', async () => {
    results.mix = await mixRuns(bench);
  });
  await part('fullsync', async () => {
    results.full = await fullRuns(bench);
  });
  await part('incremental', async () => {
    results.incremental = await incrementalRuns(bench);
  });
  await part('pause', async () => {
    results.pause = await pauseRuns(bench);
  });
  await part('ceiling', ceiling);
  await part('latency', async () => {
    const measured: Latency[] = [];
    for (const ratePerSecond of RATES) {
      const all: Latency[] = [];
      for (let i = 0; i < runs; i++) all.push(await latencyOnce(bench, ratePerSecond));
      measured.push(medianRun(all, (run) => run.spread.p99Ms));
    }
    results.latency = measured;
  });
  await part('gates', async () => {
    const all: Gates[] = [];
    for (let i = 0; i < runs; i++) all.push(await gatesOnce(bench));
    results.gates = medianRun(all, (run) => run.closed.gatesPerSecond);
  });
  await part('growth', async () => {
    results.growth = await growthOnce(bench);
  });
  return results;
}

function store(out: string, results: Results): void {
  writeFileSync(out, `${JSON.stringify(results, null, 2)}\n`);
}

function present(results: Results, { json, out, write, compare: against }: Request): void {
  if (out !== undefined) store(out, results);
  if (write) writeMarkdown(packageRoot(), results);
  if (json) console.log(JSON.stringify(results));
  else console.log(report(results));
  if (against === undefined) return;
  const changes = compare(against.stored, results);
  // Beside the one JSON object, where that was asked for.
  for (const line of shownChanges(against.file, changes)) (json ? say : console.log)(line);
  if (changes.some(({ verdict }) => verdict === 'slower')) process.exitCode = 1;
}

// Exit handlers take the servers and workers along.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => process.exit(1));

let request: Request;
try {
  request = parse(process.argv.slice(2));
} catch (error) {
  console.error((error as Error).message);
  process.exit(2);
}
await using bench = await Bench.start(request);
if (request.profile === undefined) {
  const results = await measure(bench, request);
  present(results, request);
  if (results.failures.length > 0) process.exitCode = 1;
} else {
  say(`profiles go to ${request.profile}`);
  console.log(await profileDrains(bench, await fillDrain(bench), request.profile));
}
