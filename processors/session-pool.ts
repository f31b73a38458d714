import type { WaitPlace, Waits } from '../src/journal/waits.ts';
import { Backoff, sleep } from '../src/runtime/backoff.ts';
import type { Endpoint } from '../src/runtime/endpoint.ts';
import { AbortedError } from '../src/runtime/errors.ts';
import type { Logger } from '../src/runtime/log.ts';
import { safeMessage } from '../src/runtime/log.ts';
import { parseIdentity } from '../src/target/control.ts';
import { openingRefusal, refusalHint } from '../src/target/refusal.ts';
import { FencedSession } from '../src/target/session.ts';
import { REDIS_TRAITS, type TargetTraits } from '../src/target/traits.ts';

const IDLE_MAX = 16;
const CONNECT_TIMEOUT_MS = 5_000;
const REPLY_TIMEOUT_MS = 30_000;

export interface SessionPoolOptions {
  readonly endpoint: Endpoint;
  readonly name: string;
  /** Key of the pipeline's identity at the target. */
  readonly identity: string;
  readonly waits: Waits;
  readonly log: Logger;
  readonly now: () => number;
  readonly onRetry: () => void;
}

class NotImporting extends Error {}

const NO_IMPORT = { code: 'NOIMPORT', refusal: 'transient' } as const;

/** The target may have been put into import mode after the session was opened. */
async function isReady(session: FencedSession): Promise<boolean> {
  if (session.importMode !== 'off') return true;
  await session.askForImport().catch(() => {});
  return !session.closed;
}

/** Clean sessions with the target, opened on demand and kept. Waits in place while the target cannot be reached. */
export class SessionPool {
  readonly #options: SessionPoolOptions;
  readonly #idle: FencedSession[] = [];
  readonly #all = new Set<FencedSession>();
  #closed = false;
  /** Found out before anything is applied (roles/admission.ts). */
  traits: TargetTraits = REDIS_TRAITS;

  constructor(options: SessionPoolOptions) {
    this.#options = options;
  }

  get endpoint(): Endpoint {
    return this.#options.endpoint;
  }

  /** @throws AbortedError when `signal` is aborted while waiting. */
  async acquire(place: WaitPlace, signal: AbortSignal): Promise<FencedSession> {
    for (let idle = this.#idle.pop(); idle; idle = this.#idle.pop()) {
      if (!idle.closed && (await isReady(idle))) return idle;
      this.drop(idle);
    }
    const { endpoint, name, waits, log, now } = this.#options;
    const quick = new Backoff({ minMs: 20, maxMs: 2_000 });
    const slow = new Backoff({ minMs: 2_000, maxMs: 30_000 });
    let said = false;
    for (;;) {
      if (signal.aborted || this.#closed) throw new AbortedError();
      try {
        const session = await FencedSession.open(endpoint, {
          name,
          connectTimeoutMs: CONNECT_TIMEOUT_MS,
          replyTimeoutMs: REPLY_TIMEOUT_MS,
          signal,
          traits: () => this.traits,
        });
        this.#all.add(session);
        await this.#prepare(session);
        if (await this.#endWait()) log.info({ target: endpoint.display }, 'the target answers again');
        return session;
      } catch (error) {
        if (error instanceof AbortedError) throw error;
        const { code, refusal } = error instanceof NotImporting ? NO_IMPORT : openingRefusal(error);
        const hint =
          code === 'CONNECTION'
            ? `${endpoint.display} does not answer: ${safeMessage(error)}`
            : refusalHint(code);
        // A queue that takes no writes keeps status from seeing it, and nothing else.
        if (await waits.begin('target', code, hint, now()).catch(() => !said)) {
          said = true;
          log.warn({ target: endpoint.display, code, waiting: place }, `waiting for the target: ${hint}`);
        }
        this.#options.onRetry();
        await sleep((refusal === 'permission' ? slow : quick).next(), signal);
      }
    }
  }

  /** True when there was a wait to end. Where the queue takes no writes, the next session ends it. */
  #endWait(): Promise<boolean> {
    return this.#options.waits.end('target').catch(() => false);
  }

  /** @throws NotImporting where the pipeline counts on import mode, and the target is not in it */
  async #prepare(session: FencedSession): Promise<void> {
    try {
      if ((await session.askForImport()) === 'on') return;
      const [text] = await session.read([this.#options.identity]);
      if (parseIdentity(text ?? '')?.importMode === true) throw new NotImporting();
    } catch (error) {
      this.drop(session);
      throw error;
    }
  }

  /** Takes back a session that is outside of any fence; a closed one is dropped. */
  release(session: FencedSession): void {
    if (session.closed || this.#closed || this.#idle.length >= IDLE_MAX) {
      session.close();
      this.#all.delete(session);
      return;
    }
    this.#idle.push(session);
  }

  drop(session: FencedSession): void {
    session.close();
    this.#all.delete(session);
  }

  close(): void {
    this.#closed = true;
    for (const session of this.#all) session.close();
    this.#all.clear();
    this.#idle.length = 0;
  }
}
