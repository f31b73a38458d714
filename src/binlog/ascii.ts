// Names of commands and options are compared byte by byte without regard to case, and without a string.

/** byte -> the same byte, a-z in upper case */
export const UPPER = upperTable();

function upperTable(): Uint8Array {
  const table = new Uint8Array(256);
  for (let byte = 0; byte < 256; byte++) table[byte] = byte >= 97 && byte <= 122 ? byte - 32 : byte;
  return table;
}

/** `upper` must be in upper case already. */
export function equalsUpper(buffer: Uint8Array, start: number, end: number, upper: Uint8Array): boolean {
  if (end - start !== upper.length) return false;
  for (let i = 0; i < upper.length; i++) {
    if (UPPER[buffer[start + i] as number] !== upper[i]) return false;
  }
  return true;
}

export function startsWith(buffer: Uint8Array, start: number, end: number, prefix: Uint8Array): boolean {
  if (end - start < prefix.length) return false;
  for (let i = 0; i < prefix.length; i++) {
    if (buffer[start + i] !== prefix[i]) return false;
  }
  return true;
}

/** For options whose number is small; keys and values never come here. */
export function upperText(arg: Uint8Array): string {
  return Buffer.from(arg.buffer, arg.byteOffset, arg.length).toString('latin1').toUpperCase();
}
