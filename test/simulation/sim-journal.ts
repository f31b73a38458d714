import {
  type GateItem,
  itemBytes,
  type LaneItem,
  parseGateItem,
  parseLaneItem,
} from '../../src/journal/item.ts';
import type { ResumePoint, Round } from '../../src/journal/journal.ts';
import type { LaneView } from '../../src/journal/mark.ts';

interface State {
  readonly id: string;
  epoch: number;
  readonly generation: string;
  readonly lanes: number;
  head: number;
  position: string;
  readonly tails: number[];
  readonly inBytes: number[];
  readonly logs: LaneItem[][];
  gates: GateItem[];
  positions: ResumePoint[];
}

export type JournalCopy = State | undefined;

export interface Begun {
  readonly id: string;
  readonly epoch: number;
  readonly head: number;
  readonly position: string;
  readonly generation: string;
  readonly tails: readonly number[];
}

/** What a commit, begin.lua, rebuild.lua, trim.lua, snapshot.lua and resume-point.lua do, in memory. */
export class SimJournal {
  #state: State | undefined;

  copy(): JournalCopy {
    const state = this.#state;
    if (!state) return undefined;
    return {
      ...state,
      tails: [...state.tails],
      inBytes: [...state.inBytes],
      logs: state.logs.map((log) => [...log]),
      gates: [...state.gates],
      positions: [...state.positions],
    };
  }

  /** The queue's Redis comes back with an older state, or with none. */
  fallBack(to: JournalCopy): void {
    this.#state = to;
    this.#state = this.copy();
  }

  inForce():
    | { id: string; generation: string; lanes: number; epoch: number; position: string; head: number }
    | undefined {
    const state = this.#state;
    return state && { ...state };
  }

  begin(id: string): Begun | 'fenced' | 'missing' {
    const state = this.#state;
    if (!state) return 'missing';
    if (state.id !== id) return 'fenced';
    state.epoch++;
    return { ...state, tails: [...state.tails] };
  }

  rebuild(
    replaces: { id: string; epoch: number } | undefined,
    made: { id: string; generation: string; lanes: number; start: ResumePoint },
  ): { epoch: number } | 'fenced' {
    const state = this.#state;
    if (state?.id !== replaces?.id || (replaces && state?.epoch !== replaces.epoch)) return 'fenced';
    const { id, generation, lanes, start } = made;
    const epoch = (state?.epoch ?? 0) + 1;
    this.#state = {
      id,
      epoch,
      generation,
      lanes,
      head: start.seq,
      position: start.position,
      tails: [...start.tails],
      inBytes: Array.from({ length: lanes + 1 }, () => 0),
      logs: Array.from({ length: lanes }, () => []),
      gates: [],
      positions: [start],
    };
    return { epoch };
  }

  commit(
    id: string,
    epoch: number,
    headBefore: number,
    round: Round,
  ): 'ok' | 'repeated' | 'fenced' | 'missing' {
    const state = this.#state;
    if (!state) return 'missing';
    if (state.id !== id || state.epoch !== epoch) return 'fenced';
    if (state.head === round.lastSeq && headBefore !== round.lastSeq) return 'repeated';
    if (state.head !== headBefore) return 'fenced';
    for (const item of round.items) {
      if (item.where === 'd') continue;
      const at = item.where === 'g' ? state.lanes : item.where;
      const header = `${item.header} ${state.inBytes[at]}`;
      const id = `${item.seq}-0`;
      if (item.where === 'g') {
        const gate = parseGateItem(item.seq, header, [key, item.index, key, item.commands]);
        assertAscending(state.gates.at(-1)?.seq, item.seq);
        state.gates.push(gate);
      } else {
        const log = state.logs[item.where] as LaneItem[];
        assertAscending(log.at(-1)?.seq, item.seq);
        const fields = [key, Buffer.from(header), key, item.index, key, item.commands];
        log.push(parseLaneItem([Buffer.from(id), item.commands.length === 0 ? fields.slice(0, 2) : fields]));
        state.tails[item.where] = item.seq;
      }
      if (item.commands.length > 0) state.inBytes[at] = (state.inBytes[at] ?? 0) + itemBytes(item);
    }
    state.positions.push({ seq: round.lastSeq, position: round.position, tails: [...state.tails] });
    state.head = round.lastSeq;
    state.position = round.position;
    return 'ok';
  }

  snapshot(
    checkpoints: readonly number[],
  ):
    | { id: string; generation: string; lanes: number; head: number; position: string; views: LaneView[] }
    | undefined {
    const state = this.#state;
    if (!state) return undefined;
    const { id, generation, lanes, head, position } = state;
    const views = Array.from({ length: Math.min(lanes, checkpoints.length) }, (_, lane): LaneView => {
      const checkpoint = checkpoints[lane] as number;
      const tail = state.tails[lane] as number;
      const next = checkpoint < tail ? state.logs[lane]?.find((item) => item.seq > checkpoint) : undefined;
      return { lane, tail, inBytes: 0, outBytes: 0, seen: undefined, awake: '', next };
    });
    return { id, generation, lanes, head, position, views };
  }

  resumePoint(id: string, seq: number): ResumePoint | undefined {
    const state = this.#state;
    if (state?.id !== id) return undefined;
    return state.positions.findLast((point) => point.seq <= seq);
  }

  readLane(lane: number, after: number, itemsMax: number): LaneItem[] {
    const log = this.#state?.logs[lane] ?? [];
    const from = log.findIndex((item) => item.seq > after);
    return from < 0 ? [] : log.slice(from, from + itemsMax);
  }

  readGate(seq: number): GateItem | undefined {
    return this.#state?.gates.find((gate) => gate.seq === seq);
  }

  gates(): readonly GateItem[] {
    return this.#state?.gates ?? [];
  }

  trim(id: string, seq: number): void {
    const state = this.#state;
    if (state?.id !== id) return;
    const keep = state.positions.findLast((point) => point.seq <= seq);
    if (!keep) return;
    state.positions = state.positions.filter((point) => point.seq >= keep.seq);
    state.gates = state.gates.filter((gate) => gate.seq > seq);
    state.logs.forEach((log, lane) => {
      state.logs[lane] = log.filter((item) => item.seq > seq);
    });
  }
}

const key = Buffer.from('h');

/** A stream refuses an id that is not above its last one. */
function assertAscending(last: number | undefined, next: number): void {
  if (last !== undefined && next <= last) throw new Error(`XADD ${next}-0 behind ${last}-0`);
}
