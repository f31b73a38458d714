// Holds the writes of a source's clients: CLIENT PAUSE <ms> WRITE, renewed while it is wanted.
//
// Promises:
// 1. Whatever becomes of this process, the source goes on by itself at most PAUSE_MS later.
// 2. `release` ends the pause at once. It also ends one that somebody else began: a server has only one.
// 3. A pause that lapsed (this process was held up for longer) is not noticed here: who relies on the freeze compares
//    write marks (writes.ts).

import { Backoff, sleep } from '../runtime/backoff.ts';
import type { Endpoint } from '../runtime/endpoint.ts';
import { StopError } from '../runtime/errors.ts';
import { safeMessage } from '../runtime/log.ts';
import { Connection } from '../wire/connection.ts';
import type { Argument } from '../wire/encode.ts';
import { type Reply, ReplyError } from '../wire/replies.ts';

export const PAUSE_MS = 15_000;
const RENEW_MS = 4_000;
const ANSWER_MS_MAX = 3_000;
const RELEASE_ATTEMPTS = 3;

export class Freeze {
  readonly #endpoint: Endpoint;
  #connection: Connection | undefined;
  #timer: NodeJS.Timeout | undefined;
  #renewal: Promise<void> = Promise.resolve();
  #held = false;

  constructor(endpoint: Endpoint) {
    this.#endpoint = endpoint;
  }

  get held(): boolean {
    return this.#held;
  }

  /** Returns when writes wait. @throws StopError where the source does not allow it; ConnectionLost */
  async begin(): Promise<void> {
    const info = await this.#call(['INFO', 'replication']);
    if (/^role:slave/m.test(String(info))) {
      throw new StopError(
        'FREEZE_REPLICA',
        `${this.#endpoint.display} is a replica: its writes come from its primary`,
        {
          hint: 'stop the writers, and repeat without --freeze',
        },
      );
    }
    // From here on it may be paused, whatever the answer says.
    this.#held = true;
    const reply = await this.#pause();
    if (reply instanceof ReplyError) {
      this.#held = false;
      throw this.#refused(reply);
    }
    this.#timer = setInterval(() => {
      this.#renewal = this.#pause().then(
        () => {},
        () => {},
      );
    }, RENEW_MS);
  }

  /** Idempotent. False when the source could not be told: then the pause ends by itself, PAUSE_MS after its last renewal. */
  async release(): Promise<boolean> {
    clearInterval(this.#timer);
    if (!this.#held) return true;
    // A renewal that is under way must not come behind the release.
    await this.#renewal;
    const backoff = new Backoff({ minMs: 50, maxMs: 1_000 });
    for (let attempt = 1; ; attempt++) {
      try {
        const reply = await this.#call(['CLIENT', 'UNPAUSE']);
        if (reply instanceof ReplyError) throw reply;
        this.#held = false;
        return true;
      } catch {
        if (attempt === RELEASE_ATTEMPTS) return false;
        await sleep(backoff.next(), new AbortController().signal);
      }
    }
  }

  /** Behind `release`. Idempotent. */
  close(): void {
    clearInterval(this.#timer);
    this.#connection?.close();
  }

  #pause(): Promise<Reply> {
    return this.#call(['CLIENT', 'PAUSE', PAUSE_MS, 'WRITE']);
  }

  async #call(args: readonly Argument[]): Promise<Reply> {
    if (this.#connection === undefined || this.#connection.closed) {
      this.#connection = await Connection.open(this.#endpoint, {
        name: 'lanegate:finish:freeze',
        connectTimeoutMs: ANSWER_MS_MAX,
        replyTimeoutMs: ANSWER_MS_MAX,
      });
    }
    return await this.#connection.call(args);
  }

  #refused(reply: ReplyError): StopError {
    const { display } = this.#endpoint;
    return new StopError(
      'FREEZE_REFUSED',
      `${display} does not let its writes be paused: ${safeMessage(reply)}`,
      {
        hint:
          reply.code === 'NOPERM'
            ? 'its user needs +client|pause +client|unpause; or stop the writers, and repeat without --freeze'
            : 'CLIENT PAUSE ... WRITE is known since Redis 6.2; stop the writers, and repeat without --freeze',
        cause: reply,
      },
    );
  }
}
