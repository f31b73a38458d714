import { until } from '../support/faults.ts';
import type { CutMoment, FaultyProxy, Side } from '../support/proxy.ts';
import { between, type Fault, pick, type Stage } from './fault.ts';
import type { Scene, SeatName, SourceKind } from './scene.ts';

// What happens on the way to a server.

const SEATS: readonly SeatName[] = ['source', 'queue', 'target'];
const CUT_MS_MAX = 3_000;

interface Cut {
  readonly pattern: string;
  readonly side: Side;
  readonly moments: readonly CutMoment[];
}

export const CUT_AFTER_EXEC = 'target cut after EXEC has run';
export const HALF_OPEN = 'half-open';

export function networkFaults({ options, proxies }: Scene): Fault[] {
  const faults = SEATS.flatMap((seat): Fault[] => {
    const proxy = proxies[seat];
    const cuts = cutsOf(seat, options.source);
    return [
      { name: `${seat} cut`, run: () => cut(proxy) },
      { name: `${seat} cut at a pattern`, run: (stage) => cutAt(proxy, cuts, stage) },
      { name: `${seat} muted`, run: (stage) => muted(proxy, stage) },
      { name: `${seat} slow`, run: (stage) => slow(proxy, stage) },
      { name: `${seat} sliced`, run: (stage) => sliced(proxy, stage) },
      { name: `${seat} refuses connections`, run: (stage) => refuses(proxy, stage) },
      { name: `${seat} ${HALF_OPEN}`, run: (stage) => halfOpen(proxy, stage) },
    ];
  });
  const lost: Cut = { pattern: '\r\nEXEC\r\n', side: 'request', moments: ['after-execution'] };
  return [...faults, { name: CUT_AFTER_EXEC, run: (stage) => cutAt(proxies.target, lost, stage) }];
}

function cutsOf(seat: SeatName, source: SourceKind): Cut {
  if (seat === 'target')
    return { pattern: '\r\nEXEC\r\n', side: 'request', moments: ['before-forward', 'after-forward'] };
  if (seat === 'queue')
    return { pattern: '\r\nevalsha\r\n', side: 'request', moments: ['before-forward', 'after-execution'] };
  const pattern = source === 'redis-stream' ? '\r\nresp\r\n' : '\r\nRPUSH\r\n';
  return { pattern, side: 'reply', moments: ['before-forward', 'inside', 'after-forward'] };
}

async function cut(proxy: FaultyProxy): Promise<boolean> {
  const { connections } = proxy;
  proxy.cutAll();
  return connections > 0;
}

async function cutAt(proxy: FaultyProxy, { pattern, side, moments }: Cut, { next }: Stage): Promise<boolean> {
  const { cuts } = proxy;
  proxy.cutAfter(pattern, side, pick(moments, next) ?? 'before-forward');
  const hit = await until('it is cut', () => proxy.cuts > cuts, CUT_MS_MAX).catch(() => false);
  proxy.disarm();
  return hit;
}

async function muted(proxy: FaultyProxy, { next }: Stage): Promise<boolean> {
  const { connections } = proxy;
  proxy.mute();
  await between(next, 500, 2_000);
  // TCP loses no bytes in the middle: whose replies were swallowed cannot go on.
  proxy.cutAll();
  proxy.unmute();
  return connections > 0;
}

async function slow(proxy: FaultyProxy, { next }: Stage): Promise<boolean> {
  proxy.latency(Math.round(20 + next() * 200));
  await between(next, 1_500, 3_000);
  proxy.latency(0);
  return proxy.connections > 0;
}

async function sliced(proxy: FaultyProxy, { next }: Stage): Promise<boolean> {
  proxy.sliceBytes(1 + Math.floor(next() * 3));
  await between(next, 500, 1_500);
  proxy.sliceBytes(0);
  return proxy.connections > 0;
}

async function refuses(proxy: FaultyProxy, { next }: Stage): Promise<boolean> {
  const { accepted } = proxy;
  proxy.refuse(true);
  proxy.cutAll();
  await between(next, 500, 2_000);
  proxy.refuse(false);
  return proxy.accepted > accepted;
}

async function halfOpen(proxy: FaultyProxy, { next }: Stage): Promise<boolean> {
  const hit = proxy.halfOpen() > 0;
  await between(next, 1_000, 4_000);
  return hit;
}
