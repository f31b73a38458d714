// At most one live process holds the lock file of a data directory.
//
// The file holds pid and start time of its holder. A holder that died is replaced without a window in which two
// win: whoever wants to replace it must first own `<file>.takeover`, and looks at the lock again while owning it,
// so a lock that somebody else has just taken is never overwritten. This lock spares an operator a mistake; what is
// applied stays right without it (design.md, I4).
import { existsSync, rmSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { StopError } from './errors.ts';
import { createPrivateFile, readJsonFile, writePrivateFile } from './private-file.ts';
import { identityOf, isAlive, type ProcessIdentity, parseIdentity, sameProcess } from './process-identity.ts';

const ATTEMPTS_MAX = 50;
const RETRY_MS = 20;

export class RunLock {
  readonly #path: string;
  readonly #holder: ProcessIdentity;

  private constructor(path: string, holder: ProcessIdentity) {
    this.#path = path;
    this.#holder = holder;
  }

  /** @throws StopError ALREADY_RUNNING when a live process, this one included, holds it. */
  static async acquire(path: string): Promise<RunLock> {
    const mine = identityOf(process.pid) ?? { pid: process.pid, startTime: null };
    for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
      if (createPrivateFile(path, JSON.stringify(mine))) return new RunLock(path, mine);
      refuseWhileHeld(path);
      if (takeOver(path, mine)) return new RunLock(path, mine);
      await delay(RETRY_MS);
    }
    throw new StopError('RUN_LOCK', `could not take the lock ${path}`, {
      hint: `remove ${path} if no other lanegate run uses this directory`,
    });
  }

  /** Leaves a lock alone that meanwhile belongs to someone else. */
  release(): void {
    const holder = holderOf(this.#path);
    if (holder !== undefined && sameProcess(holder, this.#holder)) rmSync(this.#path, { force: true });
  }
}

function refuseWhileHeld(path: string): void {
  const holder = holderOf(path);
  if (holder === undefined || !isAlive(holder)) return;
  throw new StopError(
    'ALREADY_RUNNING',
    `another lanegate run (pid ${holder.pid}) uses this data directory`,
    {
      hint: `stop it with: kill ${holder.pid}, or give this run another --data-dir`,
      facts: { pid: holder.pid },
    },
  );
}

function takeOver(path: string, mine: ProcessIdentity): boolean {
  const guard = `${path}.takeover`;
  if (!createPrivateFile(guard, JSON.stringify(mine))) {
    const guardian = holderOf(guard);
    if (guardian === undefined || !isAlive(guardian)) rmSync(guard, { force: true });
    return false;
  }
  try {
    refuseWhileHeld(path);
    // Released meanwhile: anyone may create it now, so overwriting could hit a fresh lock.
    if (!existsSync(path)) return false;
    writePrivateFile(path, JSON.stringify(mine));
    return true;
  } finally {
    rmSync(guard, { force: true });
  }
}

function holderOf(path: string): ProcessIdentity | undefined {
  return parseIdentity(readJsonFile(path));
}
