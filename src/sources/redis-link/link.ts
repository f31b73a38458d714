// One attachment to the source, from its answer to PSYNC to the end of the connection. It receives whether or not anyone
// reads, so that the source's output buffer does not fill:
//
//   FULLRESYNC: snapshot --> SnapshotFile, then stream --> StreamLog
//   CONTINUE:   stream --> StreamLog
//
// It tells the source once a second which offset is acknowledged, and at once when it is asked. Not before the snapshot is
// received: a source that sends it without a length takes that for the sign to go on.

import { snapshotLength } from './handshake.ts';
import type { Point } from './position.ts';
import type { SnapshotFile } from './snapshot-file.ts';
import type { LinkSocket } from './socket.ts';
import type { Spool } from './spool.ts';
import type { StreamLog } from './stream-log.ts';

/** Its name in the source's request; an acknowledgement that nobody asked for does no harm. */
const GETACK = Buffer.from('GETACK');

export type LinkPhase = 'waiting' | 'receiving' | 'streaming';

export interface LinkParts {
  readonly socket: LinkSocket;
  /** Where the stream begins that is read, under its name now. */
  readonly start: Point;
  /** The history that it went on from, if it has another name since. */
  readonly before: Point | undefined;
  /** Undefined where nothing had to be spooled when it began. */
  readonly spool: Spool | undefined;
  readonly snapshot: SnapshotFile | undefined;
  readonly stream: StreamLog;
  readonly tellMs: number;
  /** Aborted, it ends the connection. */
  readonly stop: AbortController;
}

export class Link {
  readonly parts: LinkParts;
  readonly #run: Promise<void>;
  #ackTimer: NodeJS.Timeout | undefined;
  #phase: LinkPhase;
  readonly openedAtMs = Date.now();
  #acknowledged = 0;
  #failure: unknown;

  constructor(parts: LinkParts) {
    this.parts = parts;
    const receives = parts.snapshot !== undefined && !parts.snapshot.isComplete;
    this.#phase = receives ? 'waiting' : 'streaming';
    this.#run = this.#receive(receives).catch((error: unknown) => this.#fail(error));
  }

  get spool(): Spool | undefined {
    return this.parts.spool ?? this.parts.stream.spool;
  }

  get phase(): LinkPhase {
    return this.#phase;
  }

  /** Why it ended; undefined while it lives. */
  get failure(): unknown {
    return this.#failure;
  }

  /** Whether an offset of `replid` is one of this link's stream. */
  knows(point: Point): boolean {
    const { start, before } = this.parts;
    return (
      point.replid === start.replid || (point.replid === before?.replid && point.offset <= before.offset)
    );
  }

  acknowledge(offset: number): void {
    this.#acknowledged = Math.max(this.#acknowledged, Math.min(offset, this.parts.stream.end));
  }

  async close(): Promise<void> {
    const { stop, snapshot, stream } = this.parts;
    stop.abort();
    this.#fail(new Error('the link was closed'));
    await this.#run;
    await stream.close();
    await snapshot?.close();
    // Half a snapshot serves nobody.
    if (snapshot?.isComplete === false) await this.parts.spool?.remove();
  }

  async #receive(snapshotFirst: boolean): Promise<void> {
    const { socket, snapshot, stream, stop } = this.parts;
    if (snapshotFirst && snapshot !== undefined) {
      const end = await snapshotLength(socket);
      this.#phase = 'receiving';
      await snapshot.receive(socket, end, stop.signal);
      this.#phase = 'streaming';
    }
    this.#tell();
    this.#ackTimer = setInterval(() => this.#tell(), this.parts.tellMs);
    for (;;) {
      const bytes = await socket.read();
      if (bytes.includes(GETACK)) this.#tell();
      stream.append(bytes, Date.now());
      if (stream.isFull) await stream.room();
    }
  }

  #tell(): void {
    this.parts.socket.send(['REPLCONF', 'ACK', this.#acknowledged]);
  }

  #fail(error: unknown): void {
    this.#failure ??= error;
    clearInterval(this.#ackTimer);
    this.parts.socket.close();
    this.parts.snapshot?.fail(error);
    this.parts.stream.fail(error);
  }
}
