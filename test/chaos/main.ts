// `npm run chaos -- [--seed S] [--minutes M] [--source redis-stream|redis|pika] [--workers N] [--only FAULT,FAULT] [--json]`
// Ends with 0 if every promise was kept and every guard fired that had to; the report goes to standard output.

import { parseArgs } from 'node:util';
import { type ChaosReport, runChaos } from './run.ts';
import { SOURCES, type SourceKind } from './scene.ts';

const CONTROL_MS = 8_000;
const ROUND_MS = 40_000;

interface Request {
  readonly seed: number;
  readonly minutes: number;
  readonly source: SourceKind;
  readonly workers: number;
  readonly only: readonly string[] | undefined;
  readonly json: boolean;
}

/** @throws Error that names what is wrong */
function parse(args: string[]): Request {
  const { values } = parseArgs({
    args,
    options: {
      seed: { type: 'string', default: String(Date.now() % 1_000_000) },
      minutes: { type: 'string', default: '5' },
      source: { type: 'string', default: 'redis-stream' },
      workers: { type: 'string', default: '3' },
      only: { type: 'string' },
      json: { type: 'boolean', default: false },
    },
  });
  const source = SOURCES.find((one) => one === values.source);
  if (source === undefined) throw new Error(`--source: ${values.source} is not of ${SOURCES.join(', ')}`);
  return {
    seed: positive('--seed', values.seed),
    minutes: positive('--minutes', values.minutes),
    source,
    workers: positive('--workers', values.workers),
    only: values.only?.split(','),
    json: values.json,
  };
}

function positive(name: string, text: string): number {
  const value = Number(text);
  if (!(value > 0)) throw new Error(`${name} must be a number above 0`);
  return value;
}

function print(report: ChaosReport): void {
  const { seed, source, seconds, rounds, commands, replayed, keys } = report;
  const { lost, duplicated, quietMsMax } = report;
  console.log(`seed ${seed}, ${source}, ${seconds} s, ${rounds} rounds, the first without faults`);
  console.log(
    `${commands} commands of the source, ${replayed} run again by the verifier, ${keys} keys in the last comparison`,
  );
  console.log(`lost ${lost}, duplicated ${duplicated}; lag 0 after ${quietMsMax} ms of quiet at most\n`);
  console.log('fault: used, certainly hit');
  for (const [name, { used, hit }] of Object.entries(report.faults))
    console.log(`  ${name}: ${used}, ${hit}`);
  console.log('guard: fired at least');
  for (const [name, count] of Object.entries(report.guards)) console.log(`  ${name}: ${count}`);
  for (const text of report.notDone) console.log(`not done: ${text}`);
  for (const problem of report.problems) console.log(`PROBLEM: ${problem}`);
}

// Exit handlers take the servers, workers and mounts along.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => process.exit(1));

let request: Request;
try {
  request = parse(process.argv.slice(2));
} catch (error) {
  console.error((error as Error).message);
  process.exit(2);
}
const { seed, minutes, source, workers, only, json } = request;
console.error(`chaos: seed ${seed}`);
const report = await runChaos({
  seed,
  source,
  workers,
  lanes: 6,
  controlMs: CONTROL_MS,
  roundMs: ROUND_MS,
  totalMs: minutes * 60_000,
  only,
  say: (text) => console.error(`chaos: ${text}`),
});
if (json) console.log(JSON.stringify(report, null, 2));
else print(report);
process.exit(report.problems.length === 0 ? 0 : 1);
