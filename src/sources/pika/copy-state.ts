// How far a copy has come: what the log of a copy says besides its commands, so that another process can go on.

import type { Place, Places } from './position.ts';

/** A change of the state, as it stands in the log. Keys are latin1. */
export type CopyDelta =
  | { readonly kind: 'begin'; readonly log: string; readonly places: readonly [string, Place][] }
  | { readonly kind: 'read'; readonly db: string; readonly at: Place; readonly since?: Place }
  | {
      readonly kind: 'scanned';
      readonly db: string;
      readonly cursor: string | null;
      readonly run: string;
      readonly keys: number;
    }
  | { readonly kind: 'stale'; readonly db: string; readonly keys: readonly string[] }
  | {
      readonly kind: 'fresh';
      readonly db: string;
      readonly keys: readonly string[];
      readonly through: Place | null;
    }
  | { readonly kind: 'met'; readonly db: string }
  | { readonly kind: 'again'; readonly db: string }
  | { readonly kind: 'end' };

/** Keys whose values stand at the target as they were at `through`, which lies ahead of what is read of the log. */
export interface Ahead {
  readonly keys: ReadonlySet<string>;
  readonly through: Place;
}

export interface CopiedDatabase {
  /** Read up to here. */
  at: Place;
  /** From here on the log tells what a repair behind the copy must know (recent.ts). */
  since: Place;
  /** Where SCAN goes on; undefined once it is through. */
  cursor: string | undefined;
  /** The server's run that gave the cursor. */
  run: string;
  /** What stands at the target under these keys is not what the log has led to so far: they are to be read. */
  readonly stale: Set<string>;
  ahead: Ahead | undefined;
  /** Times that its scan began again. */
  emptied: number;
}

export class CopyState {
  /** Replication id. */
  log = '';
  readonly databases = new Map<string, CopiedDatabase>();
  keys = 0;
  ended = false;

  get begun(): boolean {
    return this.databases.size > 0;
  }

  get places(): Places {
    return new Map([...this.databases].map(([db, { at }]) => [db, at]));
  }

  get since(): Places {
    return new Map([...this.databases].map(([db, { since }]) => [db, since]));
  }

  of(db: string): CopiedDatabase {
    const found = this.databases.get(db);
    if (found === undefined) throw new Error(`${db} is not copied`);
    return found;
  }

  /** True when the target has exactly what the log of `db` has led to where it is read. */
  isExact(db: string): boolean {
    const { cursor, stale, ahead } = this.of(db);
    return cursor === undefined && stale.size === 0 && ahead === undefined;
  }

  apply(delta: CopyDelta): void {
    if (delta.kind === 'begin') this.#begin(delta);
    else if (delta.kind === 'end') this.ended = true;
    else this.#change(this.of(delta.db), delta);
  }

  /** The deltas that make this state of nothing. */
  *deltas(): Generator<CopyDelta, void> {
    if (!this.begun) return;
    yield { kind: 'begin', log: this.log, places: [...this.places] };
    for (const [db, { at, since, cursor, run, stale, ahead }] of this.databases) {
      yield { kind: 'read', db, at, since };
      yield { kind: 'scanned', db, cursor: cursor ?? null, run, keys: 0 };
      if (ahead !== undefined) yield { kind: 'fresh', db, keys: [...ahead.keys], through: ahead.through };
      yield { kind: 'stale', db, keys: [...stale] };
    }
    const [first] = this.databases.keys();
    yield {
      kind: 'scanned',
      db: first as string,
      cursor: this.of(first as string).cursor ?? null,
      run: this.of(first as string).run,
      keys: this.keys,
    };
    if (this.ended) yield { kind: 'end' };
  }

  #begin({ log, places }: Extract<CopyDelta, { kind: 'begin' }>): void {
    this.log = log;
    for (const [db, at] of places)
      this.databases.set(db, {
        at,
        since: at,
        cursor: '0',
        run: '',
        stale: new Set(),
        ahead: undefined,
        emptied: 0,
      });
  }

  #change(one: CopiedDatabase, delta: Exclude<CopyDelta, { kind: 'begin' | 'end' }>): void {
    switch (delta.kind) {
      case 'read':
        one.at = delta.at;
        one.since = delta.since ?? one.since;
        return;
      case 'scanned':
        one.cursor = delta.cursor ?? undefined;
        one.run = delta.run;
        this.keys += delta.keys;
        return;
      case 'stale':
        for (const key of delta.keys) one.stale.add(key);
        return;
      case 'fresh':
        for (const key of delta.keys) one.stale.delete(key);
        if (delta.through !== null) one.ahead = { keys: new Set(delta.keys), through: delta.through };
        return;
      case 'met':
        one.ahead = undefined;
        return;
      case 'again':
        one.emptied++;
        one.cursor = '0';
        one.stale.clear();
        one.ahead = undefined;
    }
  }
}
