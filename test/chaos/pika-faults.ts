import { until } from '../support/faults.ts';
import { between, type Fault, type Stage } from './fault.ts';
import type { PikaOrigin } from './pika-source.ts';
import type { Scene } from './scene.ts';

// What only a Pika does to its slaves.

const ATTACHED_MS_MAX = 12_000;
/** The silence by which a slave finds out, and what it takes to come back. */
const FORGOTTEN_MS_MAX = 26_000;
const REFUSED_MS_MAX = 20_000;
const SENT_MS_MAX = 5_000;

export function pikaFaults({ pika }: Scene): Fault[] {
  if (pika === undefined) return [];
  return [
    { name: 'source failed over to its slave', run: () => failedOver(pika) },
    { name: 'source forgets its slaves', run: (stage) => forgets(pika, stage) },
    { name: 'source refuses a slave', run: (stage) => refuses(pika, stage) },
    { name: 'source repeats itself', run: (stage) => repeats(pika, stage) },
  ];
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
