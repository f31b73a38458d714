// Named places where a test lets a process die, stop or hang: LANEGATE_FAILPOINT="after-commit=kill@3;gate-after-pause=stop".
//   kill   SIGKILL to itself, before the next statement
//   stop   SIGSTOP to itself; goes on after SIGCONT
//   hang   a promise that never settles
//   busy   blocks the event loop until the file LANEGATE_FAILPOINT_FILE with .go behind it is there
// @3: at the third hit (1 without it), and only then. Before acting the name is appended to LANEGATE_FAILPOINT_FILE,
// so that a test knows that the place was reached.

import { appendFileSync, existsSync } from 'node:fs';
import { ConfigurationError } from './errors.ts';

interface Failpoint {
  readonly action: string;
  readonly hit: number;
  hits: number;
}

const NEVER = new Promise<never>(() => {});

let armed = false;
let points: ReadonlyMap<string, Failpoint> = new Map();
let recordPath: string | undefined;

/**
 * Called once at the start of a process. Returns the names that are armed.
 * @throws ConfigurationError for text that is not as described above.
 */
export function armFailpoints(env: Record<string, string | undefined>): string[] {
  const found = new Map<string, Failpoint>();
  for (const part of (env.LANEGATE_FAILPOINT ?? '').split(';')) {
    if (part.trim() === '') continue;
    const [, name, action, hit = '1'] =
      /^([\w-]+)=(kill|stop|hang|busy)(?:@([1-9]\d{0,8}))?$/.exec(part.trim()) ?? [];
    if (name === undefined || action === undefined) {
      throw new ConfigurationError([
        `LANEGATE_FAILPOINT: "${part.trim()}" is not NAME=kill|stop|hang|busy[@HIT]`,
      ]);
    }
    found.set(name, { action, hit: Number(hit), hits: 0 });
  }
  points = found;
  recordPath = env.LANEGATE_FAILPOINT_FILE;
  armed = found.size > 0;
  return [...found.keys()];
}

/** `await` it where `hang` makes sense; where the caller is synchronous, kill and stop work all the same. */
export function failpoint(name: string): void | Promise<void> {
  return armed ? act(name) : undefined;
}

function act(name: string): void | Promise<void> {
  const point = points.get(name);
  if (point === undefined) return;
  point.hits += 1;
  if (point.hits !== point.hit) return;
  if (recordPath !== undefined) appendFileSync(recordPath, `${name}\n`);
  if (point.action === 'hang') return NEVER;
  if (point.action === 'busy') {
    while (!existsSync(`${recordPath}.go`));
    return;
  }
  process.kill(process.pid, point.action === 'kill' ? 'SIGKILL' : 'SIGSTOP');
}
