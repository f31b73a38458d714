// Where things stand in XADD and XTRIM: options come first, and behind the id of XADD come fields, which may
// be called MAXLEN and LIMIT as well. So options are walked, never searched for.
//
//   XADD key [NOMKSTREAM] [KEEPREF|DELREF|ACKED] [IDMPAUTO p | IDMP p i] [MAXLEN|MINID [=|~] n [LIMIT m]] id field value ...
//   XTRIM key MAXLEN|MINID [=|~] n [LIMIT m] [KEEPREF|DELREF|ACKED]

const FOLLOWING_ARGUMENTS: ReadonlyMap<string, number> = new Map([
  ['NOMKSTREAM', 0],
  ['KEEPREF', 0],
  ['DELREF', 0],
  ['ACKED', 0],
  ['IDMPAUTO', 1],
  ['IDMP', 2],
]);

export interface XaddOptions {
  /** Argument index of LIMIT where the trimming is exact, which a client may not ask for. */
  readonly refusedLimit: number | undefined;
  /** Argument index of the first argument that is no option: the id of XADD. */
  readonly end: number;
}

/** `word(i)` is argument i in upper case (cut at 16 bytes is enough), '' behind the last. */
export function xaddOptions(word: (i: number) => string, argc: number): XaddOptions {
  let refusedLimit: number | undefined;
  let i = 2;
  while (i < argc) {
    const option = word(i);
    if (option === 'MAXLEN' || option === 'MINID') {
      const sign = word(i + 1);
      i += sign === '=' || sign === '~' ? 3 : 2;
      if (word(i) !== 'LIMIT') continue;
      if (sign !== '~' && i + 1 < argc) refusedLimit = i;
      i += 2;
      continue;
    }
    const following = FOLLOWING_ARGUMENTS.get(option);
    if (following === undefined) break;
    i += 1 + following;
  }
  return { refusedLimit, end: i };
}
