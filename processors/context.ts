import type { Redis } from 'ioredis';
import type { QueueSet } from '../queues/queue-set.ts';
import type { CommandTable } from '../src/binlog/command-table.ts';
import type { ClosedGates } from '../src/journal/closed-gates.ts';
import type { Journal } from '../src/journal/journal.ts';
import type { LaneLogs } from '../src/journal/lane-log.ts';
import type { Records } from '../src/journal/records.ts';
import type { Waits } from '../src/journal/waits.ts';
import type { Logger } from '../src/runtime/log.ts';
import type { ControlKeys } from '../src/target/control.ts';
import type { Link } from '../src/wire/link.ts';
import type { SessionPool } from './session-pool.ts';

export interface ProcessorOptions {
  /** Bytes of one lane chunk; an item is never cut for it. */
  readonly chunkBytesMax: number;
  readonly onPoison: 'stop' | 'dead-letter';
  /** Unapplied bytes in the journal at which ingest stops reading; it goes on below half. */
  readonly budgetBytes: number;
  /** How long a lane's job works before it ends, so that other processes get their turn. */
  readonly sliceMs: number;
  /** How long a lane's job waits for more before it ends. */
  readonly lingerMs: number;
  readonly watchdogMs: number;
  /** Longest time of one gate's EXEC: a FLUSHALL of a large target blocks it. */
  readonly gateTimeoutMs: number;
}

/** What every processor of one process shares. */
export interface PipelineContext {
  readonly name: string;
  readonly workerId: string;
  /** Queue's Redis, for steps that may be repeated. */
  readonly redis: Redis;
  /** A further connection to the queue's Redis, for blocking reads; the caller disconnects it. */
  readonly openBlocking: () => Redis;
  /** A raw link to the queue's Redis, for the journal's payload; the caller closes it. */
  readonly openLink: () => Link;
  readonly laneLogs: LaneLogs;
  readonly closedGates: ClosedGates;
  readonly control: ControlKeys;
  readonly journal: Journal;
  readonly records: Records;
  readonly waits: Waits;
  readonly queues: QueueSet;
  readonly sessions: SessionPool;
  readonly table: () => CommandTable;
  readonly options: ProcessorOptions;
  readonly log: Logger;
  readonly now: () => number;
}
