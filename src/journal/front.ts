import type { GateItem } from './item.ts';

/** A gate is open iff some lane of it has not passed it. */
export function gateIsOpen(gate: GateItem, checkpoints: readonly number[]): boolean {
  return gate.lanes.some((lane) => (checkpoints[lane] ?? -1) < gate.seq);
}

/** Open gates before which no other open gate stands on any of their lanes. `gates` in log order. Pure. */
export function frontGates(gates: readonly GateItem[], checkpoints: readonly number[]): GateItem[] {
  const blocked = new Set<number>();
  const front: GateItem[] = [];
  for (const gate of gates) {
    if (!gateIsOpen(gate, checkpoints)) continue;
    if (gate.lanes.every((lane) => !blocked.has(lane))) front.push(gate);
    for (const lane of gate.lanes) blocked.add(lane);
    if (blocked.size >= checkpoints.length) break;
  }
  return front;
}

/** Nothing stands between the two in any lane of `next`, and all of them pass `gate`: with it they have reached `next`. */
export function followsDirectly(next: GateItem, gate: GateItem): boolean {
  return (
    next.generation === gate.generation &&
    next.lanes.every((lane, at) => next.previous[at] === gate.seq && gate.lanes.includes(lane))
  );
}
