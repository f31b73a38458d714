import type { Mark } from '../src/target/control.ts';

/** Low-water marks of the last retention window: they tell up to where the source need not keep its log (I6). */
export class KeptMarks {
  readonly #retentionMs: number;
  /** Oldest first. */
  #marks: { readonly atMs: number; readonly position: string }[] = [];

  constructor(retentionMs: number) {
    this.#retentionMs = retentionMs;
  }

  /**
   * The low-water mark, because the journal holds what a target that fails over might lose again; while the journal is
   * short of that, the mark of one retention window ago.
   */
  forgettable(mark: Mark | undefined, atMs: number, journalIsShort: boolean): string | undefined {
    if (mark) this.#marks.push({ atMs, position: mark.position });
    const old = this.#marks.filter((entry) => entry.atMs <= atMs - this.#retentionMs);
    this.#marks = this.#marks.slice(Math.max(0, old.length - 1));
    return journalIsShort ? old.at(-1)?.position : mark?.position;
  }
}
