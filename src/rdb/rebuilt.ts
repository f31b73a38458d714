export interface Rebuilt {
  readonly type: number;
  readonly key: Buffer;
  /** ms since 1970 as text. */
  readonly deadline: string | undefined;
  /** Highest RDB version that the target's RESTORE takes: tells how old its commands are. */
  readonly targetVersion: number;
  /** Of one argument. */
  readonly pieceBytes: number;
  readonly onNotice: (text: string) => void;
}

export interface Sink {
  command(args: readonly Buffer[]): void;
  /** What is written should be taken away before there is more. */
  readonly isFull: boolean;
}

/** Stops where bytes are missing (window.need) or the sink is full; goes on when that is mended. */
export type Steps = Generator<void, void>;

/** Waits until the part has arrived. A generator for each call: not for every element of a large value. */
export function* whole<T>(read: () => T | undefined): Generator<void, T> {
  for (;;) {
    const part = read();
    if (part !== undefined) return part;
    yield;
  }
}
