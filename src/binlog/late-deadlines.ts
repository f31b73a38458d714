// Deadlines that have passed before their commands are applied: what lies between finds its key gone, where the source had it.

import { upperText } from './ascii.ts';
import { RespScanner } from './resp.ts';
import { AS_WRITTEN, mayNeedRewrite, rewriteFor } from './rewrite.ts';

/** Longer than the name of any command with a deadline. */
const NAME_BYTES_MAX = 16;
const WATCHING = { ...AS_WRITTEN, watchesDeadlines: true };

/** Commands in `parts` (whole commands as RESP) that set a deadline behind `timeMs` and not behind `nowMs`, ms since 1970. */
export function lateDeadlines(parts: readonly Buffer[], timeMs: number, nowMs: number): number {
  const scanner = new RespScanner();
  let late = 0;
  for (const part of parts) {
    scanner.reset(part);
    while (scanner.next()) {
      const name = upperText(scanner.arg(0).subarray(0, NAME_BYTES_MAX));
      if (!mayNeedRewrite(name, scanner, WATCHING)) continue;
      let first = Infinity;
      rewriteFor(name, scanner.args(), timeMs, AS_WRITTEN, (atMs) => {
        first = Math.min(first, atMs);
      });
      if (first <= nowMs) late++;
    }
  }
  return late;
}
