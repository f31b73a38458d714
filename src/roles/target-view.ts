import type { Endpoint } from '../runtime/endpoint.ts';
import { safeMessage } from '../runtime/log.ts';
import type { Waiting } from '../status.ts';
import {
  type Checkpoint,
  ControlKeys,
  type Identity,
  type Mark,
  parseCheckpoint,
  parseIdentity,
  parseMark,
} from '../target/control.ts';
import { openingRefusal, refusalHint } from '../target/refusal.ts';
import { FencedSession } from '../target/session.ts';
import { Outages } from './outages.ts';

const CONNECT_MS_MAX = 2_000;
const REPLY_MS_MAX = 2_000;

/** What the target says of the pipeline. Everything is undefined while it cannot be asked. */
export interface TargetFacts {
  readonly waiting: Waiting | null;
  readonly answered: boolean;
  readonly identity: Identity | undefined;
  readonly mark: Mark | undefined;
  readonly checkpoints: readonly (Checkpoint | undefined)[];
}

const UNKNOWN = { answered: false, identity: undefined, mark: undefined, checkpoints: [] } as const;

/** Reads the control keys over one session that is opened again when it has ended. Never throws for an absent target. */
export class TargetView {
  readonly #endpoint: Endpoint | undefined;
  readonly #control: ControlKeys;
  readonly #name: string;
  readonly #outages = new Outages<'target'>();
  #session: Promise<FencedSession> | undefined;

  constructor(name: string, endpoint: Endpoint | undefined) {
    this.#endpoint = endpoint;
    this.#control = new ControlKeys(name);
    this.#name = name;
  }

  /** `lanes`: how many checkpoints there are, where the journal says so; else the identity does. */
  async look(lanes: number | undefined, nowMs: number): Promise<TargetFacts> {
    if (this.#endpoint === undefined) return { ...UNKNOWN, waiting: null };
    try {
      const session = await this.#open(this.#endpoint);
      const facts = await this.#read(session, lanes);
      this.#outages.end('target');
      return facts;
    } catch (error) {
      this.close();
      const { code } = openingRefusal(error);
      const hint =
        code === 'CONNECTION'
          ? `${this.#endpoint.display} does not answer: ${safeMessage(error)}`
          : refusalHint(code);
      return { ...UNKNOWN, waiting: this.#outages.begin('target', code, hint, nowMs) };
    }
  }

  /** Idempotent. */
  close(): void {
    const session = this.#session;
    this.#session = undefined;
    session?.then((open) => open.close()).catch(() => {});
  }

  #open(endpoint: Endpoint): Promise<FencedSession> {
    this.#session ??= FencedSession.open(endpoint, {
      name: `lanegate:${this.#name}:observer`,
      connectTimeoutMs: CONNECT_MS_MAX,
      replyTimeoutMs: REPLY_MS_MAX,
    });
    return this.#session;
  }

  async #read(session: FencedSession, lanes: number | undefined): Promise<TargetFacts> {
    const control = this.#control;
    const read = (count: number) =>
      session.read([control.identity, control.mark, ...control.checkpoints(count)]);
    let values = await read(lanes ?? 0);
    const identity = parseIdentity(values[0] ?? '');
    if (lanes === undefined && identity !== undefined) values = await read(identity.lanes);
    return {
      waiting: null,
      answered: true,
      identity,
      mark: parseMark(values[1] ?? ''),
      checkpoints: values.slice(2).map((value) => parseCheckpoint(value ?? '')),
    };
  }
}
