import type { Waiting } from '../status.ts';

/** Remembers since when something has been out of reach. */
export class Outages<Place extends string> {
  readonly #sinceMs = new Map<Place, number>();

  begin(place: Place, code: string, hint: string, nowMs: number): Waiting {
    const sinceMs = this.#sinceMs.get(place) ?? nowMs;
    this.#sinceMs.set(place, sinceMs);
    return { sinceMs, code, hint };
  }

  end(place: Place): void {
    this.#sinceMs.delete(place);
  }
}
