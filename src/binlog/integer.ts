// Decimal integers as Redis reads them (string2ll): no plus sign, no leading zeros, no blanks.

const MINUS = 45;
const ZERO = 48;

/** The integer in [start, end), or undefined if it is none or is not exact in a JavaScript number. */
export function integerAt(buffer: Uint8Array, start: number, end: number): number | undefined {
  const negative = start < end && buffer[start] === MINUS;
  const from = negative ? start + 1 : start;
  if (from >= end || end - from > 16) return undefined;
  if (buffer[from] === ZERO && (end - from > 1 || negative)) return undefined;
  let value = 0;
  for (let i = from; i < end; i++) {
    const digit = (buffer[i] as number) - ZERO;
    if (digit < 0 || digit > 9) return undefined;
    value = value * 10 + digit;
  }
  if (value > Number.MAX_SAFE_INTEGER) return undefined;
  return negative ? -value : value;
}

export function integerOf(text: Uint8Array): number | undefined {
  return integerAt(text, 0, text.length);
}
