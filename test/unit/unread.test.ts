import { expect, test } from 'vitest';
import type { PipelineContext } from '../../processors/context.ts';
import { accountForUnread } from '../../processors/unread.ts';

const LANE = { journalId: 'j1', generation: '1.a', lane: 3, seq: 20 };

/** A journal in which a gate at seq 20 ends its claim, having written its account or not, while the lane looks. */
function journalWithGate(gate: { readonly accounts: boolean }) {
  const divergences: unknown[] = [];
  let seen = 10;
  const context = {
    journal: {
      keys: { gateClaim: () => 'claim' },
      seenThrough: () => Promise.resolve({ seen, tail: 30 }),
      progress: () => Promise.resolve(),
    },
    redis: {
      exists: () => {
        if (gate.accounts) seen = 20;
        return Promise.resolve(0);
      },
    },
    records: { divergence: (record: unknown) => Promise.resolve(divergences.push(record)) },
    now: () => 0,
    options: { budgetBytes: 2 },
  } as unknown as PipelineContext;
  return { context, divergences };
}

test('a gate that writes its account between two looks at the journal leaves nothing unverified', async () => {
  const { context, divergences } = journalWithGate({ accounts: true });
  expect(await accountForUnread(context, LANE)).toBe(true);
  expect(divergences).toEqual([]);
});

test('what a process that died has applied is unverified', async () => {
  const { context, divergences } = journalWithGate({ accounts: false });
  expect(await accountForUnread(context, LANE)).toBe(true);
  expect(divergences).toMatchObject([{ kind: 'unverified', seq: 11, through: 20, lanes: [3] }]);
});
