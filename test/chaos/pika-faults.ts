import { until } from '../support/faults.ts';
import { between, type Fault, type Stage } from './fault.ts';
import type { PikaOrigin } from './pika-source.ts';
import { NAME, type Scene } from './scene.ts';

// What only a Pika does to its slaves.

const ATTACHED_MS_MAX = 12_000;
/** The silence by which a slave finds out, and what it takes to come back. */
const FORGOTTEN_MS_MAX = 26_000;
const REFUSED_MS_MAX = 20_000;
const SENT_MS_MAX = 5_000;
const MARKED_MS_MAX = 60_000;

export function pikaFaults({ pika }: Scene): Fault[] {
  if (pika === undefined) return [];
  return [
    { name: 'source failed over to its slave', run: () => failedOver(pika) },
    { name: 'source forgets its slaves', run: (stage) => forgets(pika, stage) },
    { name: 'source refuses a slave', run: (stage) => refuses(pika, stage) },
    { name: 'source repeats itself', run: (stage) => repeats(pika, stage) },
  ];
}

/** No order of a Pika's databases survives both at once (RELIABILITY.md). */
const BOTH = 'queue emptied and target failed over';
const ONE_OF_BOTH: readonly string[] = [
  'queue emptied',
  'queue replaced by an empty one',
  'queue power loss',
  'queue emptied, killed at during-rebuild',
  'faults during recovery',
  'target failed over to a lagging replica',
  'target power loss',
];

/** Of a Pika, faults that lose the journal or roll the target back: each by itself, until the mark is back where it was. */
export function keptApart(
  decks: readonly (readonly Fault[])[],
  { pika }: Scene,
): readonly (readonly Fault[])[] {
  if (pika === undefined) return decks;
  let last: Promise<unknown> = Promise.resolve();
  const apart = (fault: Fault): Fault => ({
    name: fault.name,
    run: (stage) => {
      const run = last.catch(() => {}).then(() => untilMarked(fault, stage));
      last = run;
      return run;
    },
  });
  return decks.map((faults) =>
    faults
      .filter(({ name }) => name !== BOTH)
      .map((fault) => (ONE_OF_BOTH.includes(fault.name) ? apart(fault) : fault)),
  );
}

async function untilMarked(fault: Fault, stage: Stage): Promise<boolean> {
  const mark = async () => {
    const text = await stage.scene.target.client().get(`lanegate:${NAME}:mark`);
    return text === null ? 0 : (JSON.parse(text) as { mark: number }).mark;
  };
  const before = await mark();
  const hit = await fault.run(stage);
  await until('the mark is back', async () => (await mark()) >= before, MARKED_MS_MAX).catch(() => {});
  return hit;
}

async function attached(pika: PikaOrigin, timeoutMs = ATTACHED_MS_MAX): Promise<boolean> {
  return await until('a slave is attached', () => pika.master.slaves.length > 0, timeoutMs).catch(
    () => false,
  );
}

async function failedOver(pika: PikaOrigin): Promise<boolean> {
  const hit = await attached(pika);
  await pika.failOver();
  return hit;
}

/** In silence: connections stay, acknowledgements are ignored. At once, or in the middle of what it sends. */
async function forgets(pika: PikaOrigin, { next }: Stage): Promise<boolean> {
  const { faults } = pika.master;
  const inTheMiddle = next() < 0.5;
  const items = 1 + Math.floor(next() * 100);
  if (!(await attached(pika))) return false;
  if (inTheMiddle) {
    faults.dropAfterItems = items;
    await until('they are forgotten', () => faults.dropAfterItems === undefined, SENT_MS_MAX);
  } else pika.master.dropSilently();
  return await attached(pika, FORGOTTEN_MS_MAX);
}

/** "Slave AlreadyExist", as after a failure that the master has not noticed. */
async function refuses(pika: PikaOrigin, { next }: Stage): Promise<boolean> {
  const { faults } = pika.master;
  faults.refusals = 1 + Math.floor(next() * 2);
  pika.master.cutConnections();
  return await until('it has refused', () => faults.refusals === 0, REFUSED_MS_MAX).catch(() => false);
}

/** Each message twice, and before it what is left over of another session. */
async function repeats(pika: PikaOrigin, { next }: Stage): Promise<boolean> {
  const { faults, acknowledged } = pika.master;
  const began = (await attached(pika)) ? acknowledged.length : Number.POSITIVE_INFINITY;
  Object.assign(faults, { duplicates: true, wrongSession: true });
  await between(next, 500, 2_000);
  const hit = await until('more is acknowledged', () => acknowledged.length > began, SENT_MS_MAX).catch(
    () => false,
  );
  Object.assign(faults, { duplicates: false, wrongSession: false });
  return hit;
}
