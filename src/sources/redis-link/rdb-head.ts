// What a snapshot says of itself in front of its keys, read without the rest of it.

const AUX = 0xfa;
const MAGIC_BYTES = 9;
const CUT_OFF = Symbol('cut off');

/**
 * The database that is selected where the stream behind the snapshot begins. Undefined where `head`, the file's first
 * bytes, does not reach far enough to tell.
 */
export function selectedDbOf(head: Buffer): number | undefined {
  let at = MAGIC_BYTES;
  const byte = () => {
    const value = head[at++];
    if (value === undefined) throw CUT_OFF;
    return value;
  };
  const little = (bytes: number) => {
    let value = 0;
    for (let i = 0; i < bytes; i++) value += byte() * 256 ** i;
    return String(bytes === 4 ? value | 0 : value);
  };
  const text = () => {
    const first = byte();
    if (first >= 0xc0) return little([1, 2, 4][first & 0x3f] ?? 0);
    const length = first < 0x40 ? first : first < 0x80 ? ((first & 0x3f) << 8) | byte() : big(byte);
    if (at + length > head.length) throw CUT_OFF;
    at += length;
    return head.toString('latin1', at - length, at);
  };
  try {
    while (byte() === AUX) {
      const [name, value] = [text(), text()];
      if (name === 'repl-stream-db' && /^\d{1,9}$/.test(value)) return Number(value);
    }
    return 0;
  } catch (error) {
    if (error === CUT_OFF) return undefined;
    throw error;
  }
}

function big(byte: () => number): number {
  let value = 0;
  for (let i = 0; i < 4; i++) value = value * 256 + byte();
  return value;
}
