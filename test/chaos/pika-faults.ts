import { until } from '../support/faults.ts';
import { between, type Fault, type Stage } from './fault.ts';
import type { PikaOrigin } from './pika-source.ts';
import type { Scene } from './scene.ts';

// What only a Pika does to its slaves.

/** The silence by which a slave finds out, and what it takes to come back. */
const FORGOTTEN_MS_MAX = 26_000;
const REFUSED_MS_MAX = 10_000;

export function pikaFaults({ pika }: Scene): Fault[] {
  if (pika === undefined) return [];
  return [
    { name: 'source failed over to its slave', run: () => failedOver(pika) },
    { name: 'source forgets its slaves', run: (stage) => forgets(pika, stage) },
    { name: 'source refuses a slave', run: (stage) => refuses(pika, stage) },
    { name: 'source repeats itself', run: (stage) => repeats(pika, stage) },
  ];
}

async function failedOver(pika: PikaOrigin): Promise<boolean> {
  const { slaves } = pika.master;
  await pika.failOver();
  return slaves.length > 0;
}

/** In silence: connections stay, acknowledgements are ignored. At once, or in the middle of what it sends. */
async function forgets(pika: PikaOrigin, { next }: Stage): Promise<boolean> {
  const isAttached = () => pika.master.slaves.length > 0;
  if (!isAttached()) return false;
  if (next() < 0.5) pika.master.dropSilently();
  else {
    pika.master.faults.dropAfterItems = 1 + Math.floor(next() * 100);
    await until('they are forgotten', () => pika.master.faults.dropAfterItems === undefined, REFUSED_MS_MAX);
  }
  return await until('a slave is back', isAttached, FORGOTTEN_MS_MAX).catch(() => false);
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
  const { faults, slaves } = pika.master;
  const before = pika.master.acknowledged.length;
  Object.assign(faults, { duplicates: true, wrongSession: true });
  await between(next, 500, 2_000);
  Object.assign(faults, { duplicates: false, wrongSession: false });
  return slaves.length > 0 && pika.master.acknowledged.length > before;
}
