import type { SourceProgress } from '../src/sources/source.ts';

/** Older looks weigh less; after this long a past rate is forgotten to a third. */
const SMOOTHING_MS = 5_000;

export interface SnapshotView extends SourceProgress {
  /** Bytes of the snapshot that are read per second; null while there is nothing to tell it from. */
  readonly bytesPerSecond: number | null;
  /** Until the snapshot is read; null while its size or the rate is not known. */
  readonly msLeft: number | null;
}

/** Rate and time left of a snapshot, from looks at how far it has come. */
export class SnapshotMeter {
  #last: { readonly atMs: number; readonly loadedBytes: number } | undefined;
  #bytesPerMs: number | undefined;

  look(progress: SourceProgress | undefined, atMs: number): SnapshotView | null {
    if (progress === undefined) return null;
    const { loadedBytes, totalBytes, receivedBytes, phase } = progress;
    const last = this.#last;
    // Another snapshot has begun.
    if (last !== undefined && loadedBytes < last.loadedBytes) this.#bytesPerMs = undefined;
    else if (last !== undefined && atMs > last.atMs && phase !== 'streaming') {
      const ms = atMs - last.atMs;
      const sample = (loadedBytes - last.loadedBytes) / ms;
      const weight = Math.exp(-ms / SMOOTHING_MS);
      const before = this.#bytesPerMs ?? sample;
      this.#bytesPerMs = before * weight + sample * (1 - weight);
    }
    if (last === undefined || atMs > last.atMs) this.#last = { atMs, loadedBytes };
    const rate = this.#bytesPerMs;
    const whole = totalBytes ?? (phase === 'loading' ? receivedBytes : undefined);
    const left = whole === undefined ? undefined : whole - loadedBytes;
    return {
      ...progress,
      bytesPerSecond: rate === undefined ? null : Math.round(rate * 1000),
      msLeft: left === undefined || !rate ? null : Math.round(left / rate),
    };
  }
}
