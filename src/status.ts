/** The shape of `lanegate status --json` and `/api/status`: a contract, see README. */
export interface Waiting {
  readonly sinceMs: number;
  readonly code: string;
  readonly hint: string;
}

export interface Stopped {
  readonly seq: number;
  readonly position: string;
  readonly command: string;
  readonly key: string | null;
  readonly reason: string;
  readonly hint: string;
}

export interface SnapshotStatus {
  readonly phase: 'connecting' | 'waiting' | 'receiving' | 'loading' | 'streaming' | 'full';
  readonly receivedBytes: number;
  /** null when the source does not say. */
  readonly totalBytes: number | null;
  readonly loadedBytes: number;
  readonly keys: number;
  /** On disk, waiting to be read or acknowledged. */
  readonly spooledBytes: number;
  readonly bytesPerSecond: number | null;
  readonly msLeft: number | null;
}

export interface LaneStatus {
  readonly lane: number;
  readonly appliedThrough: number;
  readonly tail: number;
  readonly backlogBytes: number;
  readonly paused: boolean;
  readonly waiting: Waiting | null;
  readonly stopped: Stopped | null;
}

export interface WorkerStatus {
  readonly id: string;
  readonly host: string;
  readonly pid: number;
  readonly roles: readonly string[];
  readonly lanes: readonly number[];
}

export interface PipelineStatus {
  readonly name: string;
  readonly version: string;
  /** ms since 1970 */
  readonly time: number;
  readonly state: 'running' | 'waiting' | 'stopped';
  readonly source: {
    readonly kind: string | null;
    readonly position: string | null;
    readonly connected: boolean;
    readonly waiting: Waiting | null;
    /** How far a full sync or a copy has come; null for a source without one, and while nobody reads. */
    readonly snapshot: SnapshotStatus | null;
  };
  readonly queue: { readonly waiting: Waiting | null };
  readonly target: {
    readonly waiting: Waiting | null;
    /** `exactly once`, or what is promised instead; null before a worker has looked. */
    readonly guarantee: string | null;
  };
  readonly ingest: {
    readonly holder: string | null;
    readonly epoch: number;
    readonly generation: string | null;
    readonly paused: boolean;
    readonly stopped: Stopped | null;
    readonly backpressure: boolean;
  };
  readonly head: { readonly seq: number; readonly position: string | null };
  readonly lowWaterMark: { readonly seq: number; readonly position: string | null };
  readonly lagEntries: number;
  readonly lagMs: number;
  readonly lanes: readonly LaneStatus[];
  readonly gate: {
    readonly open: boolean;
    readonly seq: number | null;
    readonly command: string | null;
    readonly waitingFor: readonly number[];
    readonly stopped: Stopped | null;
  };
  readonly workers: readonly WorkerStatus[];
  readonly counters: {
    readonly applied: number;
    readonly gates: number;
    readonly fenced: number;
    readonly duplicatesDropped: number;
    readonly retries: number;
    readonly divergences: number;
    readonly unverified: number;
    readonly deadLettered: number;
    /** Commands applied behind the deadline that they set: the target has dropped, in the meantime, what the source had. */
    readonly lateDeadlines: number;
    /** Keys read again at the source, and written, because its log is wrong about them. */
    readonly repaired: number;
    /** Keys of the source that the target cannot hold. */
    readonly leftOut: number;
    /** Commands whose effect the log does not fix (SPOP, XADD with *): applied as written. */
    readonly undetermined: number;
    readonly ignored: number;
  };
}
