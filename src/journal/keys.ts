/** Every key of a pipeline in the queue's Redis shares one hash tag, so that each atomic step may touch them all. */
export function pipelinePrefix(name: string): string {
  return `{lanegate-${name}}`;
}

export class JournalKeys {
  readonly prefix: string;
  /** HASH: id, epoch, generation, lanes, head and the per-lane fields tail:<l>, in:<l>, out:<l>, seen:<l>, awake:<l> */
  readonly state: string;
  /** STRING: set by whatever changes id, epoch or head of the journal; a commit watches it (round-writer.ts) */
  readonly fence: string;
  /** STREAM, id = last seq of a round: where the source can be resumed */
  readonly positions: string;
  /** STREAM, id = seq: the gates, and under the same ids what they execute */
  readonly gates: string;
  readonly gateCommands: string;
  /** HASH: counters of the status page */
  readonly counters: string;
  /** HASH: `lane:<l>`, `ingest`, `gate:<seq>` -> stop record */
  readonly stops: string;
  /** HASH: `<generation>:<seq>` -> skip record of an operator or of --on-poison dead-letter */
  readonly skips: string;
  /** STREAM: what was not applied, with its bytes */
  readonly deadLetters: string;
  /** STREAM: error replies inside EXEC and replies that nobody read */
  readonly divergences: string;
  /** STREAM: keys of the source that the target cannot hold, the newest of them */
  readonly leftOut: string;
  /** HASH: `<queue>|<owner>` -> who paused it and since when */
  readonly pauses: string;
  /** HASH: worker id -> registration */
  readonly workers: string;
  /** HASH: `<what>|<worker>` -> why something waits */
  readonly waiting: string;
  /** HASH: requests of operators (relane), and what workers found the target to guarantee */
  readonly control: string;
  /** HASH: the flush that a gate is about to send, or has sent (flush-intent.lua) */
  readonly flush: string;
  /** LIST: wakes an ingest that waits for room */
  readonly room: string;
  /** STREAM: the gates that were closed last; wakes the lanes' jobs that wait at them (closed-gates.ts) */
  readonly closed: string;

  constructor(name: string) {
    const prefix = pipelinePrefix(name);
    this.prefix = prefix;
    this.state = `${prefix}:journal`;
    this.fence = `${prefix}:fence`;
    this.positions = `${prefix}:positions`;
    this.gates = `${prefix}:gates`;
    this.gateCommands = `${prefix}:gate-commands`;
    this.counters = `${prefix}:counters`;
    this.stops = `${prefix}:stops`;
    this.skips = `${prefix}:skips`;
    this.deadLetters = `${prefix}:dead-letters`;
    this.divergences = `${prefix}:divergences`;
    this.leftOut = `${prefix}:left-out`;
    this.pauses = `${prefix}:pauses`;
    this.workers = `${prefix}:workers`;
    this.waiting = `${prefix}:waiting`;
    this.control = `${prefix}:control`;
    this.flush = `${prefix}:flush`;
    this.room = `${prefix}:room`;
    this.closed = `${prefix}:closed`;
  }

  /** STREAM, id = last seq of the item: a lane's commands */
  log(lane: number): string {
    return `${this.prefix}:log:${lane}`;
  }

  logs(lanes: number): string[] {
    return Array.from({ length: lanes }, (_, lane) => this.log(lane));
  }

  /** SET: lanes that stand at their marker of this gate */
  arrivals(id: string, gate: number): string {
    return `${this.prefix}:arrivals:${id}-${gate}`;
  }

  gateClaim(id: string, gate: number): string {
    return this.claim(`gate-${id}-${gate}`);
  }

  claim(what: string): string {
    return `${this.prefix}:claim:${what}`;
  }
}
