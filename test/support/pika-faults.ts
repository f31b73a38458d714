import type { RedisServer } from './redis-server.ts';

export interface PikaFaults {
  /** Write so many bytes at a time. */
  fragmentBytes: number;
  /** Send every message twice. */
  duplicates: boolean;
  /** Before every message one of another session, with another content. */
  wrongSession: boolean;
  /** Refuse so many MetaSyncs with "Slave AlreadyExist". */
  refusals: number;
  /** Forget the slaves after so many more items, without a word. */
  dropAfterItems: number;
  /** Unknown fields in every response. */
  unknownFields: boolean;
}

export interface PikaMasterOptions {
  readonly databases?: readonly string[];
  readonly replicationId?: string;
  readonly password?: string;
  readonly fileBytes?: number;
  readonly windowItems?: number;
  /** Silence of a slave after which it is dropped, ms. */
  readonly dropMs?: number;
  readonly pingMs?: number;
  /** Holds the data that clients see. */
  readonly data?: RedisServer;
  /** Waited for between a write's execution and its item in the log. */
  readonly beforeLog?: () => Promise<void>;
  /** The same for FLUSHDB, whose lock is released by then. */
  readonly beforeFlushLog?: () => Promise<void>;
  readonly losesAppend?: boolean;
  readonly typeOfStreams?: 'streams' | 'none';
  readonly now?: () => number;
}
